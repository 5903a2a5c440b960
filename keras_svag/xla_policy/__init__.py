"""Where a loop over train steps is fastest: inside one XLA program, or around it."""

import contextlib
import contextvars

import keras

from keras_svag import _keras

_assumed_accelerator = contextvars.ContextVar("assumed_accelerator", default=None)

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
def assume_accelerator(kind):
    """Chooses as on a `"gpu"` or `"tpu"`, for programs that are compiled for one elsewhere."""
    token = _assumed_accelerator.set(kind)
    try:
        yield
    finally:
        _assumed_accelerator.reset(token)


def accelerator():
    """Returns the kind of device that Keras uses, such as `"gpu"`, or `None` for the CPU."""
    kinds = (device.partition(":")[0].lower() for device in keras.distribution.list_devices())
    return _assumed_accelerator.get() or next((kind for kind in kinds if kind != "cpu"), None)


def has_accelerator():
    """Returns True if Keras sees a device other than the CPU, or if one is assumed."""
    return accelerator() is not None


def has_convolutions(model):
    """Returns True if a Keras convolution is among the layers of a model, nested ones included."""
    return any(isinstance(layer, CONVOLUTIONS) for layer in _keras.flatten_layers(model))


def should_fuse_steps(model):
    """Returns True if many steps of a model run faster in one XLA program than one by one."""
    # Inside its loops on a CPU, XLA runs convolutions on a single thread, 25 times slower.
    return has_accelerator() or not has_convolutions(model)
