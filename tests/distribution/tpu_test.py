"""TPUs, as far as they can be tested without one: static shapes, and clear errors."""

import re
import types

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.device_loop import DeviceTrainLoop
from keras_svag.distribution import strategy_scope
from keras_svag.models import mlp

B = 8


def compiled_network(**options):
    """The network of the digits study, ready to train."""
    model = keras_svag.from_keras(mlp((8, 8), 10, seed=0, **options))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras_svag.SVAG(0.2, ell=4, momentum=0.5, weight_decay=5e-3)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=True)
    return model


def some_batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2 * B, 8, 8)).astype("float32"), rng.integers(10, size=2 * B)


def program_for_tpu(function, *arguments):
    """What JAX compiles for a TPU, ahead of time: text of StableHLO."""
    import jax

    exported = jax.export.export(jax.jit(function), platforms=["tpu"])(*arguments)
    assert exported.platforms == ("tpu",)
    return exported.mlir_module()


def assert_static(text):
    """No type with an unknown dimension, and there are types at all."""
    types_of_tensors = re.findall(r"tensor<([^>]*)>", text)
    assert len(types_of_tensors) > 100
    assert not [t for t in types_of_tensors if "?" in t]


@pytest.mark.requires_jax
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_train_step_lowers_for_tpu(norm):
    from keras_svag.trainer.jax import state_of, values_of

    model = compiled_network(norm=norm)
    batch = some_batch()
    model.train_on_batch(*batch)
    assert_static(program_for_tpu(model.train_step, values_of(state_of(model)), batch))


@pytest.mark.requires_jax
def test_many_steps_lower_for_tpu():
    from keras_svag.trainer.jax import values_of

    model = compiled_network()
    loop = DeviceTrainLoop(model, some_batch(), steps_per_call=4)
    rows = np.zeros((4, 2 * B), np.int32)
    loop.run(rows)
    arguments = (values_of(loop._variables), loop._data, rows, None, 4, True)
    text = program_for_tpu(loop._program.program, *arguments)
    assert_static(text)
    assert "stablehlo.while" in text
    # Nothing in the steps asks this machine's Python for anything.
    assert "callback" not in text


@pytest.mark.requires_tensorflow
def test_no_shape_of_the_step_is_dynamic():
    import tensorflow as tf

    model = compiled_network()
    x, y = some_batch()
    model.train_on_batch(x, y)
    specs = (tf.TensorSpec(x.shape, tf.float32), tf.TensorSpec(y.shape, tf.int64))
    graph = tf.function(lambda x, y: model.train_step((x, y))).get_concrete_function(*specs).graph
    operations = [
        operation
        for g in (graph, *graph._functions.values())
        for operation in getattr(g, "graph", g).get_operations()
    ]
    assert len(operations) > 100
    dynamic = [
        output.name
        for operation in operations
        for output in operation.outputs
        if output.dtype not in (tf.resource, tf.variant) and not output.shape.is_fully_defined()
    ]
    assert dynamic == []
    assert not [o.name for o in operations if o.type in ("PyFunc", "EagerPyFunc")]


@pytest.fixture
def fake_tpu(monkeypatch):
    """A resolver, devices and a strategy that only note what they are called with."""
    import tensorflow as tf

    calls = {}

    class Scope:
        def __enter__(self):
            calls["entered"] = True

        def __exit__(self, *error):
            calls["left"] = True

    def make_strategy(resolver):
        calls["resolver"] = resolver
        return types.SimpleNamespace(scope=Scope)

    resolvers = tf.distribute.cluster_resolver.TPUClusterResolver
    monkeypatch.setattr(resolvers, "connect", lambda tpu: calls.update(tpu=tpu) or f"at {tpu}")
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["TPU:0"])
    monkeypatch.setattr(tf.distribute, "TPUStrategy", make_strategy)
    return calls


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize(("name", "address"), [(None, "local"), ("svag", "svag")])
def test_tpu_is_connected_and_its_strategy_entered(fake_tpu, name, address):
    with strategy_scope("tpu", name):
        assert fake_tpu == {"tpu": address, "resolver": f"at {address}", "entered": True}
    assert fake_tpu["left"]


def test_no_tpu_on_this_machine():
    with pytest.raises(ValueError, match="`strategy` 'tpu' needs a TPU.*Received: .*docs/tpu.md"):
        with strategy_scope("tpu"):
            pass


@pytest.mark.requires_tensorflow
def test_tpu_that_cannot_be_reached(monkeypatch):
    import tensorflow as tf

    def refuse(tpu):
        raise ValueError("Could not lookup TPU metadata")

    resolvers = tf.distribute.cluster_resolver.TPUClusterResolver
    monkeypatch.setattr(resolvers, "connect", refuse)
    with pytest.raises(ValueError, match="Received: tpu='svag', which was not found"):
        with strategy_scope("tpu", "svag"):
            pass


@pytest.mark.requires_jax
def test_name_of_a_tpu_means_nothing_to_jax():
    with pytest.raises(ValueError, match="`tpu` must be left out on JAX.*Received: tpu='svag'"):
        with strategy_scope("tpu", "svag"):
            pass
