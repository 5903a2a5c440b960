"""Tests of the runs whose noise has the second moment of SGD's steps."""

import itertools

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import SVAG
from keras_svag.engine.compiled_noises import CompiledSecondMomentTraining, SecondMomentNoise
from keras_svag.engine.files import records
from keras_svag.engine.spec import SECOND_MOMENT
from keras_svag.engine.state import RunFolder, _stream_seed
from keras_svag.theory.gaussian_noise import random_signs
from tests.engine.conftest import RUN
from tests.engine.helpers import Interrupted, assert_same_end, execute, interrupt_after
from tests.oracles import TanhNet, flatten

SECOND_RUN = type(RUN)(**{**vars(RUN), "method": SECOND_MOMENT})


@pytest.fixture(scope="module")
def second_program(recipe, recording):
    return CompiledSecondMomentTraining(recipe, recording, batch_size=128)


@pytest.mark.parametrize("ell", [1.0, 2.0, 7.5])
def test_mean_and_second_moment_over_all_batches_and_signs(ell):
    # Six examples, batches of two: 15 batches times two signs, all equally likely. The mean must be
    # the full gradient, and E v v^T ell times that over batches, so that the covariance is
    # ell Sigma + (ell - 1) grad L grad L^T.
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    model = keras_svag.from_keras(keras.Model(inputs, keras.layers.Dense(2)(hidden)))
    # Learning rate ell makes the step -g.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(SVAG(float(ell), ell=ell), loss, jit_compile=True)
    noise = SecondMomentNoise(model.optimizer, max_steps=4)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 3)).astype("float32"), rng.integers(2, size=6)
    start, steps = model.get_weights(), []
    batches = list(itertools.combinations(range(6), 2))
    for batch, sign in itertools.product(batches, (-1.0, 1.0)):
        model.set_weights(start)
        noise.assign([sign])
        # Even positions are the first half; the second must not matter.
        rows = np.array([batch, rng.integers(6, size=2)]).T.ravel()
        model.train_on_batch(x[rows], y[rows])
        steps.append(flatten(start) - flatten(model.get_weights()))
    steps = np.array(steps)

    per_example = TanhNet.example_gradients(start, np.float64(x), y)
    per_batch = np.array([per_example[list(batch)].mean(axis=0) for batch in batches])
    full = per_example.mean(axis=0)
    # As in tests/trainer/exactness_test.py: float32 gradients, a hundred roundings of 1e-7.
    np.testing.assert_allclose(steps.mean(axis=0), full, rtol=0, atol=1e-5 * np.linalg.norm(full))
    sigma = np.cov(per_batch.T, bias=True)
    expected = ell * sigma + (ell - 1) * np.outer(full, full)
    error = np.linalg.norm(np.cov(steps.T, bias=True) - expected) / np.linalg.norm(expected)
    assert error < 1e-5


def test_signs_are_fair_and_those_of_their_step():
    signs = random_signs(3, 0, 4000)
    assert set(signs) == {-1.0, 1.0}
    # Standard errors of the mean, and of the correlation of neighbors: 1/sqrt(4000). Four of them.
    assert abs(signs.mean()) < 4 / np.sqrt(4000)
    assert abs(np.mean(signs[1:] * signs[:-1])) < 4 / np.sqrt(4000)
    np.testing.assert_array_equal(random_signs(3, 100, 120), signs[100:120])
    assert not np.array_equal(random_signs(4, 0, 50), signs[:50])
    assert random_signs(3, 5, 5).shape == (0,)


def test_at_ell_one_it_is_sgd(program, second_program):
    ends = []
    for each in (program, second_program):
        each.start(1.0, seed=1)
        each.advance(*each.draw(5, 0, 12))
        ends.append(each.state()["model"])
    for a, b in zip(*ends, strict=True):
        # XLA may order sums otherwise in another program: float32 rounding.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_an_interrupted_run_ends_the_same(second_program, recording, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    execute(SECOND_RUN, second_program, recording, whole)
    with pytest.raises(Interrupted):
        execute(SECOND_RUN, second_program, recording, halves, on_steps=interrupt_after(5))
    execute(SECOND_RUN, second_program, recording, halves)
    assert_same_end(halves, whole, SECOND_RUN)
    rows = records.read_jsonl(RunFolder(whole, "b128_second2_seed1").metrics)
    assert all(row["gradient_noise"] > 0 for row in rows)


def test_batches_are_not_those_of_svag():
    assert _stream_seed(0, SECOND_RUN) != _stream_seed(0, RUN)
