"""Checks of a model function: it must give the weights of a seed, whichever process calls it."""

import functools

import keras
import numpy as np
from keras import tree

from keras_svag._keras import training_argument
from keras_svag.loops import layers_of
from keras_svag.models import is_scale_invariant
from keras_svag.recipe.arrays import take
from keras_svag.recipe.identity import short_digest

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
            f"model={_name_of(function)}, which raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, keras.Model):
        raise ValueError(
            "`model` must be a function of an int seed that returns a keras.Model. Received: "
            f"model={_name_of(function)}, which returned {type(network).__name__}"
        )
    if not network.built or not network.variables:
        network(inputs)
    return network


def check_model_function(function, build):
    """Raises unless one seed gives one set of weights, and another seed another.

    Args:
        function: what the user gave, for the message.
        build: function of a seed that returns the built network.

    Returns:
        The network of seed 0.

    Raises:
        ValueError: if the seed is ignored, or the network has nothing to train.
    """
    network = build(0)
    if not network.trainable_variables:
        raise ValueError(
            "`model` must return a network with trainable weights. "
            f"Received: model={_name_of(function)}, whose network {network.name!r} has none"
        )
    first = _weights(network)
    if _is_of_this_package(function):
        return network
    same, other = _weights(build(0)), _weights(build(1))
    remedy = "Call keras.utils.set_random_seed(seed) at its beginning."
    if not _equal(first, same):
        raise ValueError(
            "`model` must return the same initial weights for the same seed, or a run cannot be "
            f"resumed. Received: model={_name_of(function)}, whose weights differ between two "
            f"calls with seed 0. {remedy}"
        )
    if _equal(first, other):
        raise ValueError(
            "`model` must return other initial weights for another seed, or seeds are no "
            f"independent runs. Received: model={_name_of(function)}, whose weights are equal for "
            f"seeds 0 and 1: it ignores its seed. {remedy}"
        )
    return network


def _weights(network):
    return [keras.ops.convert_to_numpy(v) for v in network.trainable_variables]


def _equal(first, second):
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def _is_of_this_package(function):
    while isinstance(function, functools.partial):
        function = function.func
    return getattr(function, "__module__", "").startswith("keras_svag.")


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
        isinstance(layer, keras.layers.BatchNormalization) for layer in layers_of(network)
    )
    return {
        "scale_invariant": is_scale_invariant(network, x),
        "independent_of_batch": not has_batch_norm,
    }


def describe_network(network, inputs):
    """What tells a network from others: its variables, and what it puts out for two examples.

    Args:
        network: the network of seed 0.
        inputs: inputs as it sees them.

    Returns:
        A dict that JSON can hold; `outputs` agrees between machines up to rounding.
    """
    variables = [(list(v.shape), str(v.dtype), v.trainable) for v in network.variables]
    outputs = network(take(inputs, slice(PROBED_EXAMPLES)), **training_argument(network, False))
    values = [np.ravel(keras.ops.convert_to_numpy(leaf)) for leaf in tree.flatten(outputs)]
    size = float(np.mean(np.abs(np.concatenate(values).astype(np.float64))))
    return {
        "parameters": network.count_params(),
        "variables": short_digest(variables),
        "outputs": float(f"{size:.5g}"),
    }
