"""A multilayer perceptron that can be scale invariant in all its trained weights."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_svag._checks import one_of, positive_int
from keras_svag.models.normalization import EPSILON, NORMS, normalization


def mlp(
    input_shape: Sequence[int],
    num_classes: int,
    depth: int = 2,
    width: int = 1,
    norm: str = "group",
    affine: bool = False,
    train_last_layer: bool = False,
    epsilon: float = EPSILON,
    seed: int | None = None,
) -> keras.Model:
    """Multilayer perceptron: dense layer, normalization, ReLU, `depth` times, and a last layer.

    With a normalization, `affine=False` and `train_last_layer=False` (the defaults) scaling the
    trained weights does not change the loss, as the equilibrium results of Li, Malladi, Arora 2021
    (arXiv 2102.12470, section 5) assume. Hidden kernels are He-normal, the last one LeCun-normal.

    Args:
        input_shape: tuple of ints, the shape of one example, which is flattened.
        num_classes: int, number of classes.
        depth: int, number of hidden layers. Defaults to `2`.
        width: int; hidden layers have `64 * width` units. Defaults to `1`.
        norm: `"group"`, `"batch"`, `"layer"` or `"none"`. Defaults to `"group"`: with batch norm
            the loss depends on the batch size, so two batch sizes have two different SDEs.
        affine: bool, train scale and offset of normalizations. Defaults to `False`.
        train_last_layer: bool, train the last layer. Defaults to `False`.
        epsilon: float >= 0, added to variances in normalizations. Defaults to `1e-5`.
        seed: int for the initial weights. Defaults to `None`: different ones on each call.

    Returns:
        A functional `keras.Model` that outputs logits of shape `(batch, num_classes)`.

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
