"""The private names in keras_svag/_keras.py exist, and no other module uses another one."""

import ast
import importlib
import inspect
import pathlib
import types

import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from keras_svag import _keras
from keras_svag.datasets import SampledBatches
from keras_svag.optimizers import AmplificationMixin

PACKAGE = pathlib.Path(_keras.__file__).parent
LISTED = {*_keras.OPTIMIZER_HOOKS, *_keras.OPTIMIZER_ATTRIBUTES, _keras.MODEL_HOOK}


def test_optimizer_hooks_exist_and_are_the_only_private_overrides():
    private = {
        name
        for name, value in vars(AmplificationMixin).items()
        if name.startswith("_") and callable(value) and hasattr(keras.optimizers.SGD, name)
    }
    assert private - {"__init__"} == set(_keras.OPTIMIZER_HOOKS)
    parameters = inspect.signature(keras.optimizers.SGD._backend_apply_gradients).parameters
    assert list(parameters) == ["self", "grads", "trainable_variables"]
    assert list(inspect.signature(keras.optimizers.SGD._apply_weight_decay).parameters) == [
        "self",
        "variables",
    ]


def test_optimizer_attributes_exist():
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([keras.Variable(1.0)])
    assert [name for name in _keras.OPTIMIZER_ATTRIBUTES if not hasattr(optimizer, name)] == []
    assert float(_keras.get_learning_rate(optimizer)) == 0.5
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    optimizer = keras.optimizers.SGD(schedule)
    assert _keras.get_learning_rate(optimizer) is schedule
    assert _keras.get_learning_rate(_keras.without_learning_rate(optimizer)) is None


def test_accumulated_gradients():
    weights = [keras.Variable(np.ones(size, "float32")) for size in (2, 3)]
    optimizer = keras.optimizers.SGD(0.5, gradient_accumulation_steps=3)
    optimizer.build(weights)
    assert all(a is b for a, b in zip(_keras.built_weights(optimizer), weights, strict=True))
    for step in range(4):
        position, sums = _keras.accumulation_state(optimizer, weights[::-1])
        # The sums of the micro-batches since the last update; zero after it.
        assert int(position) == step % 3
        for total, weight in zip(sums, weights[::-1], strict=True):
            np.testing.assert_array_equal(total.numpy(), np.full(weight.shape, step % 3))
        optimizer.apply([keras.ops.ones(2), keras.ops.ones(3)], weights)


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("name", _keras.TENSORFLOW_NAMES)
def test_names_of_tensorflow_exist(name):
    module, _, attribute = name.rpartition(".")
    try:
        owner = importlib.import_module(module)
    except ModuleNotFoundError:
        # `tf.__internal__` is an attribute of a lazily loaded package.
        owner = importlib.import_module("tensorflow")
        for part in module.split(".")[1:]:
            owner = getattr(owner, part)
    assert callable(getattr(owner, attribute))


def test_layers_of_nested_models():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model = keras.Sequential([keras.Input((2,)), inner])
    assert inner.layers[0] in list(_keras.flatten_layers(model))


@pytest.mark.requires_tensorflow
def test_model_hook_of_tensorflow():
    import tensorflow as tf

    from keras_svag.trainer.tensorflow import BackendStep

    hook = getattr(keras.Model, _keras.MODEL_HOOK)
    assert list(inspect.signature(hook).parameters) == ["self", "iterator", "data_batch"]
    assert _keras.MODEL_HOOK in vars(BackendStep)
    batches = SampledBatches(np.ones((8, 2)), np.ones(8), batch_size=1)
    iterator = types.SimpleNamespace(data_adapter=PyDatasetAdapter(batches, shuffle=False))
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert _keras.first_batch_under_strategy(model, iterator) is None
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert _keras.first_batch_under_strategy(model, iterator)[0].shape == (2, 2)


def test_model_hooks_exist():
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    assert type(model) is _keras.Functional
    model.compile("sgd", "mse")
    assert isinstance(model._call_has_training_arg, bool)
    assert isinstance(model._loss_tracker, keras.metrics.Metric)
    assert list(inspect.signature(model._compute_loss).parameters) == [
        "x",
        "y",
        "y_pred",
        "sample_weight",
        "training",
    ]
    assert "data_batch" in inspect.signature(model._symbolic_build).parameters
    assert [name for name in _keras.COMPILED_STATE if not hasattr(model, name)] == []
    assert _keras.functional_init_arguments((1, 2), {})
    assert not _keras.functional_init_arguments((1,), {})


def test_what_a_growing_batch_needs(tmp_path):
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([keras.Variable(1.0)])
    assert _keras.counted_batches(optimizer) == 0
    batches = SampledBatches(np.ones((8, 2)), np.ones(8), batch_size=1)
    assert not _keras.is_tf_dataset(batches)
    adapter = _keras.PyDatasetAdapter(batches, None, False)
    assert adapter.py_dataset is batches and adapter.num_batches == 4
    assert isinstance(_keras.TFDatasetAdapter.num_batches, property)
    # Keras saves and loads an attribute that is a `KerasSaveable`.
    assert isinstance(optimizer, _keras.KerasSaveable)


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def own_names(tree):
    """The private names that a module defines itself: functions, classes, attributes, variables."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def private_uses(tree, own):
    """Private names of libraries in a module: imports, `tf.__internal__`, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            if is_private(node.attr) and node.attr not in own and not name.startswith("os."):
                yield node.attr
            names = (
                [name.replace("tf.", "tensorflow.")] if name.startswith("tf.__internal__") else []
            )
        else:
            continue
        for name in names:
            if name.startswith(("keras.src", "tensorflow.python", "tensorflow.__internal__")):
                yield name


def trees(package=PACKAGE):
    for path in sorted(package.rglob("*.py")):
        if path.name != "_keras.py":
            yield path.relative_to(package), ast.parse(path.read_text(encoding="utf-8"))


def unlisted(package=PACKAGE):
    """Private names that are used outside `_keras.py` without being listed there, by module."""
    own = {name for _, tree in trees(package) for name in own_names(tree)} - LISTED
    found = set()
    for path, tree in trees(package):
        for name in private_uses(tree, own):
            # Of `tf.__internal__.a.b` the beginning is an attribute too.
            is_listed = name in LISTED or any(n.startswith(name) for n in _keras.TENSORFLOW_NAMES)
            if not is_listed:
                found.add((path.as_posix(), name))
    return found


def test_private_names_are_used_or_listed_in_one_module():
    assert unlisted() == set()


def test_listed_attributes_are_used_by_the_mixin_only():
    own = {name for _, tree in trees() for name in own_names(tree)} - LISTED
    users = {p.as_posix() for p, tree in trees() if LISTED & set(private_uses(tree, own))}
    assert users == {
        "engine/compiled_noises.py",
        "optimizers/amplification.py",
        "trainer/tensorflow.py",
    }


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from keras.src import backend", "keras.src.backend"),
        ("import tensorflow.python.eager", "tensorflow.python.eager"),
        ("tf.__internal__.tracking", "tensorflow.__internal__.tracking"),
        ("model._compile_loss", "_compile_loss"),
    ],
)
def test_an_unlisted_name_is_found(tmp_path, line, name):
    (tmp_path / "module.py").write_text(line, encoding="utf-8")
    assert unlisted(tmp_path) == {("module.py", name)}
