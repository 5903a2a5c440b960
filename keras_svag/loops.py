"""Where a loop over training steps is fastest: inside one XLA program, or around it."""

import keras

# On CPUs XLA runs convolutions inside its loops on one plain thread, 25 times slower than outside.
SLOW_IN_CPU_LOOPS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


def loops_inside_xla(model):
    """Whether many steps of a model run faster in one XLA program than one by one.

    Args:
        model: a built `keras.Model`.

    Returns:
        `False` for a model with convolutions on a machine without an accelerator.
    """
    if any("cpu" not in device.lower() for device in keras.distribution.list_devices()):
        return True
    return not any(isinstance(layer, SLOW_IN_CPU_LOOPS) for layer in model._flatten_layers())
