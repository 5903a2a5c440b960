"""Where a loop over training steps is fastest: inside one XLA program, or around it."""

import keras

CONVOLUTIONS = (
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


def has_accelerator():
    """Whether Keras sees a device that is no CPU."""
    return any("cpu" not in device.lower() for device in keras.distribution.list_devices())


def layers_of(model):
    """The layers of a model, those of models inside it too."""
    return model._flatten_layers()


def has_convolutions(model):
    """Whether there is a Keras layer with a convolution in a model."""
    return any(isinstance(layer, CONVOLUTIONS) for layer in layers_of(model))


def should_fuse_steps(model):
    """Whether many steps of a model run faster in one XLA program than one by one.

    Args:
        model: a built `keras.Model`.

    Returns:
        `False` for a model with convolutions on a machine without an accelerator: XLA runs them
        inside its loops on one plain thread there, 25 times slower than outside.
    """
    return has_accelerator() or not has_convolutions(model)
