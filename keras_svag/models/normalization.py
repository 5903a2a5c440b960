"""Normalization layers of the networks, by name.

All divide by `sqrt(variance + epsilon)`. The paper's code has epsilon 0 in its scale invariant
networks, so that scaling the weights changes nothing at all. Here the default is above 0, because
with 0 a channel (batch norm) or group of channels that is constant gives 0/0: NaN, or amplified
rounding errors. Images of zeros are constant under group and layer norm, and so is a batch of one
example without height and width under batch norm.
"""

import keras

from keras_svag._checks import finite_float, one_of

NORMS = ("group", "batch", "layer", "none")
EPSILON = 1e-5
GROUPS = 8
# With Keras' default of 0.99 moving averages lag far behind on short runs.
MOVING_AVERAGE_MOMENTUM = 0.9


def normalization(norm, affine=False, epsilon=EPSILON, name=None):
    """Returns a normalization layer for channels-last inputs, or `None` for `"none"`."""
    one_of("norm", norm, NORMS)
    epsilon = finite_float("epsilon", epsilon, "a number >= 0", minimum=0.0)
    options = {"epsilon": epsilon, "center": affine, "scale": affine, "axis": -1, "name": name}
    if norm == "group":
        return keras.layers.GroupNormalization(groups=GROUPS, **options)
    if norm == "batch":
        return keras.layers.BatchNormalization(momentum=MOVING_AVERAGE_MOMENTUM, **options)
    if norm == "layer":  # not `LayerNormalization`, which normalizes each pixel
        return keras.layers.GroupNormalization(groups=1, **options)
    return None
