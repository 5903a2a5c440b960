"""The networks and data that are timed, and how they are compiled."""

import keras
import numpy as np

import keras_svag
from benchmarks.pytorch import Setting
from keras_svag.datasets import Sampler
from keras_svag.models import mlp, preresnet
from keras_svag.models.normalization import EPSILON, GROUPS, MOVING_AVERAGE_MOMENTUM

LEARNING_RATE, ELL, WEIGHT_DECAY = 0.05, 4.0, 5e-3
CLASSES = 10
# Examples of which steps draw their batches, where it does not matter how many.
COUNT = 1024
SHAPES = {"mlp": (64,), "preresnet": (32, 32, 3)}


def build(name, seed=0, **options):
    """A plain Keras model: `"mlp"` (as in the digits studies) or `"preresnet"` (as for CIFAR-10).

    Args:
        name: one of the two.
        seed: of the initial weights.
        **options: of the model.

    Returns:
        A `keras.Model` of logits.
    """
    make = {"mlp": mlp, "preresnet": preresnet}[name]
    return make(SHAPES[name], CLASSES, seed=seed, **options)


def examples(name, count, seed=0):
    """Random inputs and labels: what a step costs does not depend on what it learns."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, *SHAPES[name])).astype("float32")
    return x, rng.integers(CLASSES, size=count).astype("int32")


def _compile(model, optimizer, steps_per_execution):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
        steps_per_execution=steps_per_execution,
    )
    return model


def svag(name, steps_per_execution=1, measure_noise=True, ell=ELL, **options):
    """The network with the split-batch train step and `SVAG`, compiled with XLA."""
    model = keras_svag.from_keras(build(name, **options))
    model.measure_noise = measure_noise
    optimizer = keras_svag.SVAG(LEARNING_RATE, ell=ell, weight_decay=WEIGHT_DECAY)
    return _compile(model, optimizer, steps_per_execution)


def advised(name, **options):
    """The network as `BatchSizeAdvisor` wants it: Keras' SGD, noise and signal measured."""
    model = keras_svag.from_keras(build(name, **options))
    optimizer = keras.optimizers.SGD(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return _compile(model, optimizer, 1)


def plain(name, steps_per_execution=1, **options):
    """The same network under Keras' own train step and SGD, compiled with XLA."""
    optimizer = keras.optimizers.SGD(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return _compile(build(name, **options), optimizer, steps_per_execution)


def row_table(count, steps, batch_size, seed=0):
    """Example indices of `steps` steps of 2B, drawn with replacement."""
    return Sampler(count, batch_size, seed=seed).rows(0, steps)


def kernels_of(model):
    """The kernels of a Keras model by the names of their layers."""
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return {layer.name: layer.kernel.numpy() for layer in layers}


def pytorch_setting(name, data, channels_last=False, device="cpu", compiled=False, **options):
    """What the PyTorch side needs to train as ours does from the same weights.

    Args:
        name: of the network.
        data: tuple `(x, y)`.
        channels_last: whether PyTorch is to keep images with channels last.
        device: PyTorch's name of the device it runs on.
        compiled: whether `torch.compile` is used.
        **options: of the model: `depth` and `norm`.

    Returns:
        A `Setting`.
    """
    return Setting(
        name=name,
        depth=options.get("depth", 2),
        norm=options.get("norm", "group"),
        groups=GROUPS,
        epsilon=EPSILON,
        momentum=MOVING_AVERAGE_MOMENTUM,
        learning_rate=LEARNING_RATE,
        ell=ELL,
        weight_decay=WEIGHT_DECAY,
        kernels=kernels_of(build(name, **options)),
        x=data[0],
        y=data[1],
        channels_last=channels_last,
        device=device,
        compiled=compiled,
    )
