"""The normalisations that the networks of the studies can have, by name."""

import keras

from keras_svag._checks import finite_float, one_of

NORMS = ("group", "batch", "layer", "none")
EPSILON = 1e-5
GROUPS = 8
# Keras' default of 0.99 leaves moving averages far behind on short runs.
MOVING_AVERAGE_MOMENTUM = 0.9


def normalization(norm, affine=False, epsilon=EPSILON, name=None):
    """A normalisation layer by name.

    All of them divide by `sqrt(variance + epsilon)`. The paper's code has epsilon 0 in its scale
    invariant networks, so that scaling the weights changes nothing at all; here that is
    `epsilon=0.0`. The default is above 0 because with 0 a channel (batch norm) or a group of
    channels (group and layer norm) that is constant over all that its variance is taken over gives
    0/0: NaN in outputs and gradients, or, where rounding leaves some variance, noise of order 1.
    Ordinary images and batches are not constant. An image of zeros is, under group and layer norm
    (no layer before it has a bias), and so is a batch of one example without height and width
    under batch norm.

    Args:
        norm: `"group"` (8 groups of channels), `"batch"` (moving-average momentum 0.9), `"layer"`
            (one group: over all of an example, channels, height and width, as in the paper's code;
            not over the channels of each pixel, as `keras.layers.LayerNormalization` does) or
            `"none"`.
        affine: whether the layer has a trained scale and offset. Defaults to `False`.
        epsilon: Float >= 0 added to the variance. Defaults to `1e-5`.
        name: Name of the layer.

    Returns:
        A Keras layer for inputs with channels last, or `None` for `"none"`.

    Raises:
        ValueError: if `norm` is not one of the names or `epsilon` is below 0.
    """
    one_of("norm", norm, NORMS)
    epsilon = finite_float("epsilon", epsilon, "a number >= 0", minimum=0.0)
    options = {"epsilon": epsilon, "center": affine, "scale": affine, "axis": -1, "name": name}
    if norm == "group":
        return keras.layers.GroupNormalization(groups=GROUPS, **options)
    if norm == "batch":
        return keras.layers.BatchNormalization(momentum=MOVING_AVERAGE_MOMENTUM, **options)
    if norm == "layer":
        return keras.layers.GroupNormalization(groups=1, **options)
    return None
