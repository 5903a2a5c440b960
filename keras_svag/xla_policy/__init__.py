"""Where a loop over train steps is fastest: inside one XLA program, or around it."""

import contextlib
import contextvars

import keras

from keras_svag import _keras

_accelerator_assumed = contextvars.ContextVar("accelerator_assumed", default=False)

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


@contextlib.contextmanager
def assume_accelerator():
    """Chooses as on an accelerator, for programs that are compiled for one elsewhere."""
    token = _accelerator_assumed.set(True)
    try:
        yield
    finally:
        _accelerator_assumed.reset(token)


def has_accelerator():
    """Returns True if Keras sees a device other than the CPU, or if one is assumed."""
    return _accelerator_assumed.get() or any(
        "cpu" not in device.lower() for device in keras.distribution.list_devices()
    )


def has_convolutions(model):
    """Returns True if a Keras convolution is among the layers of a model, nested ones included."""
    return any(isinstance(layer, CONVOLUTIONS) for layer in _keras.flatten_layers(model))


def should_fuse_steps(model):
    """Returns True if many steps of a model run faster in one XLA program than one by one."""
    # Inside its loops on a CPU, XLA runs convolutions on a single thread, 25 times slower.
    return has_accelerator() or not has_convolutions(model)
