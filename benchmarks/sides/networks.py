"""The networks and data of the benchmarks."""

import keras
import numpy as np

import keras_svag
from benchmarks.sides.pytorch import Setting
from keras_svag.datasets import Sampler
from keras_svag.models import gpt, mlp, preresnet, vgg
from keras_svag.models.normalization import EPSILON, GROUPS, MOVING_AVERAGE_MOMENTUM

LEARNING_RATE, ELL, WEIGHT_DECAY = 0.05, 4.0, 5e-3
CLASSES = 10
TOKENS = 96  # characters of the gpt
# Size of the data set where it does not matter.
COUNT = 1024
# As for digits, CIFAR-10, CIFAR-10 at size `medium`, and text.
SHAPES = {
    "mlp": (64,),
    "preresnet": (32, 32, 3),
    "preresnet_16x16": (16, 16, 3),
    "vgg": (32, 32, 3),
    "gpt": (64,),
}
MODELS = {"mlp": mlp, "preresnet": preresnet, "preresnet_16x16": preresnet, "vgg": vgg, "gpt": gpt}


def build(name, seed=0, **options):
    """Builds a plain Keras model: a name of `SHAPES`."""
    return MODELS[name](SHAPES[name], TOKENS if name == "gpt" else CLASSES, seed=seed, **options)


def title(name, batch_size, **options):
    """Returns the title of a figure: the network, B and its options."""
    return ", ".join([f"{name} B={batch_size}", *(f"{k} {v}" for k, v in options.items())])


def examples(name, count, seed=0):
    """Returns random inputs and labels: the cost of a step does not depend on them."""
    rng = np.random.default_rng(seed)
    if name == "gpt":
        tokens = rng.integers(TOKENS, size=(2, count, *SHAPES[name])).astype("int32")
        return tokens[0], tokens[1]
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
    """Returns the network with the split-batch train step and `SVAG`, compiled with XLA."""
    model = keras_svag.from_keras(build(name, **options))
    model.measure_noise = measure_noise
    optimizer = keras_svag.SVAG(LEARNING_RATE, ell=ell, weight_decay=WEIGHT_DECAY)
    return _compile(model, optimizer, steps_per_execution)


def advised(name, **options):
    """Returns the network for `BatchSizeAdvisor`: Keras' SGD, noise and signal measured."""
    model = keras_svag.from_keras(build(name, **options))
    optimizer = keras.optimizers.SGD(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    return _compile(model, optimizer, 1)


def plain(name, steps_per_execution=1, gradient_accumulation_steps=None, **options):
    """Returns the network with Keras' own train step and SGD, compiled with XLA."""
    optimizer = keras.optimizers.SGD(
        LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )
    return _compile(build(name, **options), optimizer, steps_per_execution)


def row_table(count, steps, batch_size, seed=0):
    """Draws the example indices of `steps` steps of 2B with replacement."""
    return Sampler(count, batch_size, seed=seed).rows(0, steps)


def kernels_of(model):
    """Returns the kernels of a Keras model by layer."""
    layers = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return {layer.name: layer.kernel.numpy() for layer in layers}


def pytorch_setting(name, data, channels_last=False, device="cpu", compiled=False, **options):
    """Returns the `Setting` with which PyTorch trains as we do, from the same weights."""
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
