"""Checks and descriptions of model functions, which must depend on their seed alone."""

import functools

import keras
import numpy as np
from keras import tree

from keras_svag._checks import error_text
from keras_svag._keras import flatten_layers, overrides, training_argument
from keras_svag.models import is_scale_invariant
from keras_svag.recipe.canonical import canonical_form, short_digest, without_names
from keras_svag.trainer import SVAGModel
from keras_svag.trainer.conversion import REFUSED_METHODS


def call_model_function(function, seed, inputs):
    """Calls a model function; returns its network, built on `inputs`."""
    expected = (
        "`model` must be a function of an int seed that returns a keras.Model. "
        f"Received: model={_name_of(function)}, which "
    )
    try:
        network = function(seed)
    except Exception as error:
        raise ValueError(f"{expected}raised {error_text(error)}") from error
    if not isinstance(network, keras.Model):
        raise ValueError(f"{expected}returned {type(network).__name__}")
    if not network.built or not network.variables:
        _call(function, network, inputs)
    return network


def _call(function, network, inputs):
    try:
        return network(inputs)
    except Exception as error:
        raise ValueError(
            "`model` must return a network for the inputs of `train_data`. Received: "
            f"model={_name_of(function)}, whose network raised {error_text(error)}"
        ) from error


def check_model_function(function, build, batch, compile_arguments):
    """Checks that weights are determined by the seed and fit the data; returns seed 0's network."""
    network = build(0)
    if not network.trainable_variables:
        raise ValueError(
            "`model` must return a network with trainable weights. "
            f"Received: model={_name_of(function)}, whose network has none"
        )
    if _is_of_this_package(function):
        return network
    _check_fit(function, network)
    same, other = build(0), build(1)
    remedy = "Call keras.utils.set_random_seed(seed) first in it."
    # All variables: the seed of dropout is a non-trainable one.
    if not _equal(network.variables, same.variables):
        raise ValueError(
            "`model` must return the same initial weights for the same seed, so that runs can be "
            f"resumed. Received: model={_name_of(function)}, whose variables differ between two "
            f"calls with seed 0. {remedy}"
        )
    if _equal(network.trainable_variables, other.trainable_variables):
        raise ValueError(
            "`model` must return different initial weights for different seeds, so that runs are "
            f"independent. Received: model={_name_of(function)}, whose weights are equal for "
            f"seeds 0 and 1. {remedy}"
        )
    _check_loss(function, other, batch, compile_arguments)
    return network


def _check_fit(function, network):
    """Raises if a study would bypass what the `fit` of a network does."""
    for method in ("fit", "evaluate", *REFUSED_METHODS):
        if overrides(network, method) and not isinstance(network, SVAGModel):
            raise ValueError(
                f"`model` must return a network without its own `{method}`, since a study takes "
                "steps of its own on the data as they are. Received: "
                f"model={_name_of(function)}, whose network is of {type(network)}. If it is a "
                "KerasHub task, pass data through its `preprocessor` first, and return "
                "keras.Model(task.input, task.output)."
            )


def _check_loss(function, network, batch, compile_arguments):
    """Raises if loss or metrics cannot be computed for a few examples."""
    x, y, weights = (*batch, None, None)[:3]
    outputs = _call(function, network, x)
    try:
        network.compile(optimizer="sgd", jit_compile=False, **compile_arguments)
        network.compute_loss(x, y, outputs, weights, training=False)
        network.compute_metrics(x, y, outputs, weights)
    except Exception as error:
        if y is None:
            raise ValueError(
                "`train_data` must have targets for this loss: (x, y) or (x, y, sample_weights). "
                f"Received: train_data without targets, loss={compile_arguments['loss']!r}"
            ) from error
        raise ValueError(
            "`loss` and `metrics` must match the targets of `train_data` and the outputs of "
            f"`model`. Received: loss={compile_arguments['loss']!r}, "
            f"metrics={compile_arguments['metrics']!r}, which raised {error_text(error)}"
        ) from error


def _equal(first, second):
    return len(first) == len(second) and all(map(np.array_equal, _values(first), _values(second)))


def _values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def _is_of_this_package(function):
    while isinstance(function, functools.partial):
        function = function.func
    return (getattr(function, "__module__", None) or "").startswith("keras_svag.")


def _name_of(function):
    return getattr(function, "__qualname__", repr(function))


def network_properties(network, x):
    """Returns the `scale_invariant` and `independent_of_batch` of `TrainingFacts`."""
    has_batch_norm = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in flatten_layers(network)
    )
    return {
        "scale_invariant": is_scale_invariant(network, x),
        "independent_of_batch": not has_batch_norm,
    }


def describe_network(network, inputs):
    """Describes a network's variables, layers and outputs for `environment.json`."""
    variables = [(list(v.shape), str(v.dtype), v.trainable) for v in network.variables]
    outputs = network(inputs, **training_argument(network, False))
    values = [np.ravel(keras.ops.convert_to_numpy(leaf)) for leaf in tree.flatten(outputs)]
    size = float(np.mean(np.abs(np.concatenate(values).astype(np.float64))))
    return {
        "parameters": network.count_params(),
        "variables": short_digest(variables),
        "layers": short_digest([_describe_layer(layer) for layer in flatten_layers(network)]),
        "weights": float(f"{_project(_values(network.trainable_variables)):.8g}"),
        "outputs": float(f"{size:.5g}"),
    }


def _describe_layer(layer):
    """Class and config of a layer, since not all settings (dropout) show in the outputs."""
    try:
        config = {} if isinstance(layer, keras.Model) else layer.get_config()
    except NotImplementedError:  # a custom layer with arguments that Keras cannot serialize
        config = {}
    return type(layer).__qualname__, without_names(canonical_form(config))


def _project(weights):
    """Projects weights to one number that changes with each of them, unlike softmax outputs."""
    values = np.concatenate([np.ravel(w).astype(np.float64) for w in weights])
    return np.mean(values * np.cos(np.arange(len(values))))
