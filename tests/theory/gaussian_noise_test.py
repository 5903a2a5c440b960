"""Tests of keras_svag/theory/gaussian_noise.py: covariance and independence."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from keras_svag.datasets import Sampler
from keras_svag.theory import gaussian_loss_weights, standard_normals
from keras_svag.theory.gaussian_noise import random_signs
from tests.oracles import TanhNet


def all_batches(count, batch_size):
    return np.array(list(itertools.product(range(count), repeat=batch_size)))


@pytest.mark.parametrize("noise_steps", [1, 7, 0.5])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_weighted_gradient_has_the_covariance_of_a_mini_batch(batch_size, noise_steps):
    # The weighted gradient is affine in the normals, so its covariance is the sum over the
    # standard basis of the outer products of what each basis vector adds: no sampling.
    rng = np.random.default_rng(5)
    weights = [rng.normal(size=shape) for shape in [(3, 4), (4,), (4, 2), (2,)]]
    gradients = TanhNet.example_gradients(weights, rng.normal(size=(5, 3)), np.arange(5) % 2)
    rows = gaussian_loss_weights(np.vstack([np.zeros(5), np.eye(5)]), batch_size, noise_steps)
    weighted = rows @ gradients / 5
    np.testing.assert_allclose(weighted[0], gradients.mean(axis=0), rtol=1e-13)
    columns = weighted[1:] - weighted[0]
    per_batch = gradients[all_batches(5, batch_size)].mean(axis=1)
    expected = noise_steps * np.cov(per_batch.T, bias=True)
    # float64, 125 batches
    np.testing.assert_allclose(
        columns.T @ columns, expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )


def test_loss_weights_average_to_one():
    rows = gaussian_loss_weights(standard_normals(1437, 0, 0, 4), 8, noise_steps=64)
    np.testing.assert_allclose(rows.mean(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(gaussian_loss_weights(np.ones((2, 1)), 8), 1)


def test_weights_of_losses_are_taken_along_the_last_axis():
    rows = gaussian_loss_weights(standard_normals(6, 0, 0, 4).reshape(2, 2, 6), 8)
    for index in np.ndindex(2, 2):
        alone = gaussian_loss_weights(standard_normals(6, 0, 0, 4).reshape(2, 2, 6)[index], 8, 1.0)
        np.testing.assert_allclose(rows[index], alone, rtol=1e-15)


def philox(seed, step, stream):
    key, counter = np.array([seed, step], np.uint64), np.array([0, 0, 0, stream], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def test_random_numbers_of_a_seed_stay_what_they_are():
    # Studies are resumed by later versions, so this is not to change.
    for step, row in enumerate(standard_normals(5, seed=7, start=3, stop=6), 3):
        np.testing.assert_array_equal(row, philox(7, step, 1).standard_normal(5))
    for step, sign in enumerate(random_signs(seed=7, start=3, stop=40), 3):
        assert sign == (1.0 if philox(7, step, 2).integers(2) else -1.0)


def test_signs_are_fair_and_depend_on_seed_and_step_alone():
    signs = random_signs(seed=1, start=0, stop=2000)
    assert set(signs) == {-1.0, 1.0} and abs(signs.mean()) < 4 / math.sqrt(2000)
    np.testing.assert_array_equal(random_signs(1, 50, 70), signs[50:70])
    assert 0.4 < np.mean(random_signs(2, 0, 2000) == signs) < 0.6
    assert random_signs(1, 3, 3).shape == (0,)


def test_standard_normals_depend_on_seed_and_step_alone():
    whole = standard_normals(50, seed=2**63, start=0, stop=9)
    np.testing.assert_array_equal(standard_normals(50, 2**63, 4, 6), whole[4:6])
    assert standard_normals(50, 0, 3, 3).shape == (0, 50)
    other = standard_normals(50, seed=1, start=0, stop=9)
    everything = np.concatenate([whole, other])
    assert len(np.unique(everything)) == everything.size


def test_standard_normals_are_standard_and_independent():
    values = standard_normals(500, seed=4, start=0, stop=400)
    assert stats.kstest(values.ravel(), "norm").pvalue > 1e-3
    # Neighboring steps and neighboring examples: correlations of 2e5 pairs, 4 standard errors.
    for first, second in [(values[1:], values[:-1]), (values[:, 1:], values[:, :-1])]:
        assert abs(np.mean(first * second)) < 4 / math.sqrt(first.size)


def test_normals_and_batches_of_a_seed_have_no_random_numbers_in_common():
    def generator():
        return np.random.Generator(np.random.Philox(key=np.array([7, 3], np.uint64)))

    # This is where the sampler draws the batches of epoch 3 (125 steps each) ...
    rows = Sampler(1000, 4, seed=7).rows(375, 500)
    np.testing.assert_array_equal(rows, generator().integers(1000, size=(125, 8)))
    # ... and not where the normals of step 3 come from.
    normals = standard_normals(1000, 7, 3, 4)
    assert len(np.intersect1d(generator().standard_normal(1000), normals)) == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: gaussian_loss_weights(1.0, 8), r"Received: normals of shape \(\)"),
        (lambda: gaussian_loss_weights([[]], 8), r"Received: normals of shape \(1, 0\)"),
        (lambda: gaussian_loss_weights([1.0], 0), "Received: batch_size=0"),
        (lambda: gaussian_loss_weights([1.0], 1, 0), "Received: noise_steps=0"),
        (lambda: standard_normals(0, 0, 0, 1), "Received: count=0"),
        (lambda: standard_normals(3, -1, 0, 1), "Received: seed=-1"),
        (lambda: standard_normals(3, 0, 4, 2), "Received: stop=2"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
