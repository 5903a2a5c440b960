"""Checks of a model function: it must give the weights of a seed, whichever process calls it."""

import functools
import re

import keras
import numpy as np
from keras import tree

from keras_svag._keras import flatten_layers, training_argument
from keras_svag.models import is_scale_invariant
from keras_svag.recipe.arrays import take
from keras_svag.recipe.canonical import plain, short_digest, without_names

SOME_EXAMPLES = 16  # enough to see whether a network is scale invariant
PROBED_EXAMPLES = 2


def call_model_function(function, seed, inputs):
    """The network of a seed, built.

    Args:
        function: function of an int seed.
        seed: int.
        inputs: some inputs as the network sees them, to build it with.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: if the function raises, or returns something else.
    """
    try:
        network = function(seed)
    except Exception as error:
        raise ValueError(
            "`model` must be a function of an int seed that returns a keras.Model. Received: "
            f"model={_name_of(function)}, which raised {error_text(error)}"
        ) from error
    if not isinstance(network, keras.Model):
        raise ValueError(
            "`model` must be a function of an int seed that returns a keras.Model. Received: "
            f"model={_name_of(function)}, which returned {type(network).__name__}"
        )
    if not network.built or not network.variables:
        _call(function, network, inputs)
    return network


def _call(function, network, inputs):
    try:
        return network(inputs)
    except Exception as error:
        raise ValueError(
            "`model` must return a network that takes the inputs of `train_data`. Received: "
            f"model={_name_of(function)}, whose network raised {error_text(error)}"
        ) from error


def check_model_function(function, build, batch, compile_arguments):
    """Raises unless one seed gives one set of weights, another seed another, and all fit the data.

    Args:
        function: what the user gave, for the message.
        build: function of a seed that returns the built network.
        batch: a few examples as the network sees them: `(x,)`, `(x, y)` or `(x, y, weights)`.
        compile_arguments: dict of loss and metrics, as for `compile`.

    Returns:
        The network of seed 0.

    Raises:
        ValueError: if the seed is ignored, the network has nothing to train, or inputs, targets,
            loss or metrics do not go with it.
    """
    network = build(0)
    if not network.trainable_variables:
        raise ValueError(
            "`model` must return a network with trainable weights. "
            f"Received: model={_name_of(function)}, whose network {network.name!r} has none"
        )
    if _is_of_this_package(function):
        return network
    same, other = build(0), build(1)
    remedy = "Call keras.utils.set_random_seed(seed) at its beginning."
    # All of them: dropout keeps its seed in one that is not trained.
    if not _equal(_values(network.variables), _values(same.variables)):
        raise ValueError(
            "`model` must return the same initial weights for the same seed, or a run cannot be "
            f"resumed. Received: model={_name_of(function)}, whose variables differ between "
            f"two calls with seed 0. {remedy}"
        )
    if _equal(_weights(network), _weights(other)):
        raise ValueError(
            "`model` must return other initial weights for another seed, or seeds are no "
            f"independent runs. Received: model={_name_of(function)}, whose weights are equal for "
            f"seeds 0 and 1: it ignores its seed. {remedy}"
        )
    _check_loss(function, other, batch, compile_arguments)
    return network


def _check_loss(function, network, batch, compile_arguments):
    """Raises where loss and metrics of a few examples cannot be computed."""
    x, y, weights = (*batch, None, None)[:3]
    outputs = _call(function, network, x)
    try:
        network.compile(optimizer="sgd", jit_compile=False, **compile_arguments)
        network.compute_loss(x, y, outputs, weights, training=False)
        network.compute_metrics(x, y, outputs, weights)
    except Exception as error:
        raise ValueError(
            "`loss` and `metrics` must go with the targets of `train_data` and the outputs of "
            f"`model`. Received: loss={compile_arguments['loss']!r}, "
            f"metrics={compile_arguments['metrics']!r}, which raised {error_text(error)}"
        ) from error


def error_text(error):
    """An error in one line, without the colors that Keras gives it."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return f"{type(error).__name__}: {' '.join(text.split())}"


def _weights(network):
    return _values(network.trainable_variables)


def _values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def _equal(first, second):
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def _is_of_this_package(function):
    while isinstance(function, functools.partial):
        function = function.func
    return (getattr(function, "__module__", None) or "").startswith("keras_svag.")


def _name_of(function):
    return getattr(function, "__qualname__", repr(function))


def network_properties(network, x, preprocess=None):
    """What the theory asks of a network, at the start of a run.

    Args:
        network: a built `keras.Model`.
        x: training inputs as they are stored.
        preprocess: function of a batch of them, or `None`.

    Returns:
        A dict of bools: `scale_invariant` and `independent_of_batch`.
    """
    x = take(x, slice(SOME_EXAMPLES))
    x = x if preprocess is None else preprocess(x)
    has_batch_norm = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in flatten_layers(network)
    )
    return {
        "scale_invariant": is_scale_invariant(network, x),
        "independent_of_batch": not has_batch_norm,
    }


def describe_network(network, inputs):
    """What tells a network from others: variables, layers, and what it puts out for two examples.

    Args:
        network: the network of seed 0.
        inputs: inputs as it sees them.

    Returns:
        A dict that JSON can hold; `weights` and `outputs` agree between machines up to rounding.
    """
    variables = [(list(v.shape), str(v.dtype), v.trainable) for v in network.variables]
    outputs = network(take(inputs, slice(PROBED_EXAMPLES)), **training_argument(network, False))
    values = [np.ravel(keras.ops.convert_to_numpy(leaf)) for leaf in tree.flatten(outputs)]
    size = float(np.mean(np.abs(np.concatenate(values).astype(np.float64))))
    return {
        "parameters": network.count_params(),
        "variables": short_digest(variables),
        "layers": short_digest([_describe_layer(layer) for layer in flatten_layers(network)]),
        "weights": float(f"{_project(_weights(network)):.8g}"),
        "outputs": float(f"{size:.5g}"),
    }


def _describe_layer(layer):
    """Class and settings of a layer: not all of them, such as dropout, show in the outputs."""
    try:
        config = {} if isinstance(layer, keras.Model) else layer.get_config()
    except NotImplementedError:  # a layer of one's own with arguments that Keras cannot keep
        config = {}
    return type(layer).__qualname__, without_names(plain(config))


def _project(weights):
    """One number that changes with any of the weights, as outputs may not: those of a softmax."""
    values = np.concatenate([np.ravel(w).astype(np.float64) for w in weights])
    return np.mean(values * np.cos(np.arange(len(values))))
