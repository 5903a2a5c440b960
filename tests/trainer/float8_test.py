"""K3: scales and histories of float8, which Keras overwrites with their "gradients", stay out."""

import keras
import numpy as np
import pytest

from keras_svag import SVAG, Recipe, from_keras
from keras_svag.callbacks import BatchSizeAdvisor
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.recording import Recording
from keras_svag.gaussian_noise import GaussianNoiseLoop
from tests.oracles import flatten
from tests.trainer.exactness_test import cross_entropy
from tests.trainer.model_test import data

RATE = 0.25
pytestmark = pytest.mark.filterwarnings("ignore:Layer InputLayer")


def quantized_net(seed=0):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((3,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    model.quantize("float8")
    return model


def parts(model):
    """The weights that are learned, and those that Keras overwrites, as vectors."""
    return [
        flatten([w.numpy() for w in model.trainable_weights if w.overwrite_with_gradient == kind])
        for kind in (False, True)
    ]


def step_of(x, y):
    """Gradient of a plain model on a batch, and what it overwrites."""
    model = quantized_net()
    before, _ = parts(model)
    model.compile(keras.optimizers.SGD(RATE), cross_entropy(), jit_compile=False)
    model.train_on_batch(x, y)
    after, overwritten = parts(model)
    return (before - after) / RATE, overwritten


@pytest.mark.parametrize("ell", [1, 1024])
def test_k3_step_noise_and_signal_are_those_of_the_learned_weights(ell):
    x, y = data(8)
    (g1, first), (g2, second) = step_of(x[::2], y[::2]), step_of(x[1::2], y[1::2])
    model = from_keras(quantized_net())
    before, _ = parts(model)
    optimizer = SVAG(RATE, ell=ell)
    model.compile(optimizer, cross_entropy(), jit_compile=False)
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["gradient_noise"], np.sum((g1 - g2) ** 2) / 2, rtol=1e-4)
    np.testing.assert_allclose(logs["gradient_signal"], g1 @ g2, rtol=1e-3, atol=1e-5)
    after, overwritten = parts(model)
    root = np.sqrt(2 * ell - 1)
    expected = before - RATE / ell * ((1 + root) / 2 * g1 + (1 - root) / 2 * g2)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    np.testing.assert_allclose(overwritten, np.maximum(first, second), rtol=1e-6)


def test_k3_other_optimizers_overwrite_with_the_maximum_of_both_halves():
    x, y = data(8)
    (_, first), (_, second) = step_of(x[::2], y[::2]), step_of(x[1::2], y[1::2])
    model = from_keras(quantized_net())
    model.compile(keras.optimizers.Adam(0.01), cross_entropy(), jit_compile=False)
    model.train_on_batch(x, y)
    np.testing.assert_allclose(parts(model)[1], np.maximum(first, second), rtol=1e-6)


def test_k3_weight_norm_of_the_advisor_is_that_of_the_learned_weights():
    x, y = data(32)
    model = from_keras(quantized_net())
    model.compile(keras.optimizers.SGD(0.0), cross_entropy(), jit_compile=False)
    advisor = BatchSizeAdvisor(verbose=0)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[advisor])
    norms = [row["weight_norm"] for row in advisor._recorder.rows]
    np.testing.assert_allclose(norms, np.sum(parts(model)[0] ** 2), rtol=1e-5)


def test_k3_weight_norm_of_a_study_is_that_of_the_learned_weights():
    recipe = make_recipe(quantized_net)
    program = CompiledTraining(recipe, Recording(seed=0, num_records=1), batch_size=8)
    program.start(1.0, seed=0)
    learned = parts(recipe.build(0))[0]
    np.testing.assert_allclose(program.weight_norm(), np.sum(learned**2), rtol=1e-5)
    assert program.velocity_norm() == 0.0


def make_recipe(build):
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    return Recipe(build, data(32), optimizer, cross_entropy(), batch_size=8, epochs=1)


def test_k3_gaussian_noise_is_refused():
    model = from_keras(quantized_net())
    model.compile(SVAG(0.1), cross_entropy(), jit_compile=False)
    with pytest.raises(ValueError, match="`model` must.*float8.*quantize"):
        GaussianNoiseLoop(model, data(8))
