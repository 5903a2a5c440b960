"""The private names of Keras that keras_svag/_keras.py relies on are still there."""

import inspect
import types

import keras
import numpy as np
import pytest
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from keras_svag import _keras
from keras_svag.datasets import SampledBatches
from keras_svag.optimizers import AmplificationMixin


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
    assert hasattr(model, "_compile_loss")
    assert hasattr(model, "_compile_metrics")
    assert _keras.functional_init_arguments((1, 2), {})
    assert not _keras.functional_init_arguments((1,), {})
