"""The part of a program that XLA compiles on TensorFlow changes nothing but the speed."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import models
from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop
from tests.backends import run_code

pytestmark = pytest.mark.requires_tensorflow

if keras.backend.backend() == "tensorflow":
    from keras_svag.device_loop import tensorflow as device_loop
    from keras_svag.xla_policy import tensorflow as xla_policy

N, B, STEPS = 16, 4, 5
JIT_SCOPES = ["all", "all_but_convolutions", "none"]


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, 6, 6, 3)).astype("float32"), rng.integers(3, size=N).astype("int32")


def network(*layers):
    layers = [keras.Input((6, 6, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras_svag.SVAGSequential(layers)
    model.compile(
        keras_svag.SVAG(0.1, ell=2.0, weight_decay=1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def convolutional(groups=2):
    keras.utils.set_random_seed(1)  # as layers draw the seeds of their weights
    return network(
        keras.layers.Conv2D(4, 3, padding="same"),
        keras.layers.GroupNormalization(groups),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.BatchNormalization(),
    )


@pytest.mark.parametrize(
    "layers, jit_scope",
    [
        ([keras.layers.Dense(4), keras.layers.GroupNormalization(2)], "all"),
        ([keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()], "none"),
        ([keras.layers.Conv2D(4, 3), keras.layers.GroupNormalization(1)], "none"),
        ([keras.layers.Conv2D(4, 3), keras.layers.GroupNormalization(2)], "all_but_convolutions"),
        ([keras.layers.DepthwiseConv2D(3), keras.layers.GroupNormalization(-1)], JIT_SCOPES[1]),
        ([keras.layers.Conv2D(4, 3), models.GroupNormalization(2)], "all_but_convolutions"),
    ],
)
def test_rule(layers, jit_scope, monkeypatch):
    model = network(*layers)
    monkeypatch.setattr(xla_policy, "has_onednn", lambda: True)
    assert xla_policy.jit_scope_of(model) == jit_scope
    # Operations of a small batch are so short that XLA wins.
    assert xla_policy.jit_scope_of(model, 16) == "all"
    assert xla_policy.jit_scope_of(model, 18) == jit_scope
    nested = keras.Sequential([keras.Input((6, 6, 3)), model])
    assert xla_policy.jit_scope_of(nested) == jit_scope
    monkeypatch.setattr(xla_policy, "has_accelerator", lambda: True)
    assert xla_policy.jit_scope_of(model) == "all"
    monkeypatch.undo()
    monkeypatch.setattr(xla_policy, "has_onednn", lambda: False)
    assert xla_policy.jit_scope_of(model) == "all"


@pytest.mark.parametrize("value", ["0", "1"])
def test_onednn_is_as_the_environment_says(value):
    code = "from keras_svag.xla_policy.tensorflow import has_onednn; print(has_onednn())"
    printed = run_code(code, backend="tensorflow", TF_ENABLE_ONEDNN_OPTS=value)
    assert printed.split() == [str(value == "1")]


def train(jit_scope, monkeypatch):
    """Steps and an evaluation: logs, and all that the model holds afterwards."""
    monkeypatch.setattr(device_loop, "jit_scope_of", lambda *_: jit_scope)
    model = convolutional()
    rows = np.random.default_rng(1).integers(N, size=(STEPS, 2 * B))
    _, logs = DeviceTrainLoop(model, data(), STEPS).run(rows)
    logs |= {f"test_{k}": v for k, v in DeviceEvaluation(model, data()).run().items()}
    return logs, np.concatenate([np.ravel(v) for v in model.get_weights()])


@pytest.fixture(scope="module")
def trained_by_xla():
    with pytest.MonkeyPatch.context() as monkeypatch:
        return train("all", monkeypatch)


@pytest.mark.parametrize("jit_scope", JIT_SCOPES[1:])
def test_steps_are_the_same_whatever_is_compiled(jit_scope, monkeypatch, trained_by_xla):
    logs, weights = train(jit_scope, monkeypatch)
    expected_logs, expected = trained_by_xla
    # Sums in another order, 5 steps long: some 50 roundings of 6e-8 each, on weights of order 1.
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=3e-6)
    assert logs == pytest.approx(expected_logs, rel=1e-4)
    # An interrupted run ends as if it had not been, to the bit.
    again_logs, again = train(jit_scope, monkeypatch)
    assert again_logs == logs
    np.testing.assert_array_equal(again, weights)


def graph_of(jit_scope):
    import tensorflow as tf

    batch = tuple(tf.constant(array) for array in data())
    program = xla_policy.compiled(convolutional().train_step, jit_scope)
    return program.get_concrete_function(batch)


def test_all_but_convolutions_is_marked_for_xla():
    marked = {True: set(), False: set()}
    for operation in graph_of("all_but_convolutions").graph.get_operations():
        marked[operation.node_def.attr["_XlaCompile"].b].add(operation.type)
    assert {"Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput"} <= marked[False] - marked[True]
    assert {"Mul", "Mean", "Rsqrt", "ReluGrad", "MatMul"} <= marked[True] - marked[False]


@pytest.mark.parametrize("jit_scope", JIT_SCOPES)
def test_one_program_of_xla_only_where_it_has_everything(jit_scope):
    assert graph_of(jit_scope).function_def.attr["_XlaMustCompile"].b == (jit_scope == "all")
