"""A multilayer perceptron that can be made scale invariant in everything it trains."""

import keras
import numpy as np

from keras_svag._checks import one_of, positive_int
from keras_svag.models.normalization import EPSILON, NORMS, normalization


def mlp(
    input_shape,
    num_classes,
    depth=2,
    width=1,
    norm="group",
    affine=False,
    train_last_layer=False,
    epsilon=EPSILON,
    seed=None,
):
    """A multilayer perceptron: dense without bias, normalisation, ReLU, `depth` times.

    With a normalisation, `affine=False` and `train_last_layer=False` (the defaults) the loss does
    not change when the trained weights are scaled, which the equilibrium results of Li, Malladi,
    Arora 2021 (arXiv 2102.12470, section 5) assume.

    Args:
        input_shape: tuple of ints, the shape of one example; flattened.
        num_classes: number of classes.
        depth: number of hidden layers. Defaults to `2`.
        width: hidden layers have `64 * width` units. Defaults to `1`.
        norm: `"group"`, `"batch"`, `"layer"` or `"none"`. Defaults to `"group"`: batch norm makes
            the loss depend on the batch size, so that two batch sizes have two different SDEs.
        affine: whether normalisations have a trained scale and offset. Defaults to `False`.
        train_last_layer: whether the last layer is trained. Defaults to `False`.
        epsilon: epsilon of the normalisations. Defaults to `1e-5`.
        seed: int that decides the initial weights (hidden kernels He-normal, last kernel
            LeCun-normal), or `None` for other weights on each call.

    Returns:
        A functional `keras.Model` from examples to logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> mlp((8, 8), 10).count_params()
    8832
    """
    depth = positive_int("depth", depth)
    units = 64 * positive_int("width", width)
    num_classes = positive_int("num_classes", num_classes)
    one_of("norm", norm, NORMS)
    seeds = np.random.SeedSequence(seed).generate_state(depth + 1).tolist()

    inputs = keras.Input(tuple(input_shape))
    x = keras.layers.Flatten()(inputs)
    for i in range(depth):
        kernel = keras.initializers.HeNormal(seed=seeds[i])
        x = keras.layers.Dense(
            units, use_bias=False, kernel_initializer=kernel, name=f"hidden_{i}"
        )(x)
        layer = normalization(norm, affine, epsilon, name=f"norm_{i}")
        x = x if layer is None else layer(x)
        x = keras.layers.ReLU()(x)
    kernel = keras.initializers.LecunNormal(seed=seeds[depth])
    outputs = keras.layers.Dense(
        num_classes,
        use_bias=False,
        kernel_initializer=kernel,
        trainable=train_last_layer,
        name="logits",
    )(x)
    return keras.Model(inputs, outputs, name="mlp")
