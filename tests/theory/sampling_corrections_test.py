"""Tests of keras_svag/theory/sampling_corrections.py, by enumeration of all that can be drawn."""

import itertools

import numpy as np
import pytest

from keras_svag.theory import (
    correct_noise,
    correct_signal,
    noise_and_signal_for_scaling,
    svag_coefficients,
)
from tests.theory.helpers import raw_means


def all_pairs(mode, n, size):
    """Every pair of halves that the mode can draw, all of them equally likely."""
    if mode == "with_replacement":
        halves = list(itertools.product(range(n), repeat=size))
        return list(itertools.product(halves, repeat=2))
    halves = list(itertools.combinations(range(n), size))
    pairs = itertools.product(halves, repeat=2)
    if mode == "without_replacement":
        return list(pairs)
    return [(a, b) for a, b in pairs if not set(a) & set(b)]


@pytest.fixture(params=["with_replacement", "without_replacement", "shuffled_epochs"])
def enumerated(request):
    """Mode, gradients of five examples, and the gradients of both halves of every pair."""
    gradients = np.random.default_rng(3).normal(0.5, 1.0, (5, 3))
    pairs = all_pairs(request.param, n=5, size=2)
    halves = [np.array([gradients[list(pair[i])].mean(axis=0) for pair in pairs]) for i in (0, 1)]
    return request.param, gradients, *halves


def test_corrections_give_the_true_signal_and_noise_with_replacement(enumerated):
    mode, gradients, g1, g2 = enumerated
    noise, raw_signal = raw_means(g1, g2)
    full = gradients.mean(axis=0)
    corrected = correct_signal(raw_signal, noise, 2, 5, mode)
    np.testing.assert_allclose(corrected, full @ full, rtol=1e-12)
    trace = np.mean(np.sum((gradients - full) ** 2, axis=1))
    np.testing.assert_allclose(correct_noise(noise, 2, 5, mode), trace / 2, rtol=1e-12)


def test_what_the_raw_noise_is_in_each_mode(enumerated):
    mode, gradients, g1, g2 = enumerated
    spread = gradients.var(axis=0, ddof=1).sum()  # S^2
    expected = {
        "with_replacement": (1 - 1 / 5) * spread / 2,
        "without_replacement": (1 - 2 / 5) * spread / 2,
        "shuffled_epochs": spread / 2,
    }
    np.testing.assert_allclose(raw_means(g1, g2)[0], expected[mode], rtol=1e-12)


@pytest.mark.parametrize("ell", [0.5, 1, 2, 7.3])
def test_square_of_the_amplified_gradient_takes_raw_noise_and_signal(enumerated, ell):
    # Whatever the mode: the equilibrium identity needs no correction.
    _, _, g1, g2 = enumerated
    r1, r2 = svag_coefficients(ell)
    noise, raw_signal = raw_means(g1, g2)
    square = np.mean(np.sum((r1 * g1 + r2 * g2) ** 2, axis=1))
    np.testing.assert_allclose(square, raw_signal + ell * noise, rtol=1e-12)


def test_inputs_of_the_bound_tell_the_square_of_the_gradient_at_any_batch_size(enumerated):
    # Measured at B = 2: G + N, and at kappa B only N falls, as 1/kappa. By enumeration of all
    # batches of 1 to 5 examples.
    mode, gradients, g1, g2 = enumerated
    noise, rest = noise_and_signal_for_scaling(*raw_means(g1, g2), 2, 5, mode)
    for size in (1, 2, 3, 4, 5):
        if mode == "with_replacement":
            batches = list(itertools.product(range(5), repeat=size))
        else:
            batches = list(itertools.combinations(range(5), size))
        means = np.array([gradients[list(batch)].mean(axis=0) for batch in batches])
        square = np.mean(np.sum(means**2, axis=1))
        np.testing.assert_allclose(rest + noise * 2 / size, square, rtol=1e-12)


def test_corrected_signal_with_augmentation_is_an_upper_bound():
    # Each of four examples has two versions, drawn anew each time; halves of one example.
    gradients = np.random.default_rng(1).normal(size=(4, 2, 3))
    pairs = [
        (gradients[i, a], gradients[j, b])
        for i, j in itertools.permutations(range(4), 2)
        for a, b in itertools.product(range(2), repeat=2)
    ]
    noise, raw_signal = raw_means(*map(np.array, zip(*pairs)))
    full = gradients.mean(axis=(0, 1))
    within = np.mean(np.sum((gradients - gradients.mean(axis=1, keepdims=True)) ** 2, axis=2))
    corrected = correct_signal(raw_signal, noise, 1, 4, "shuffled_epochs")
    np.testing.assert_allclose(corrected, full @ full + within / 4, rtol=1e-12)


def test_short_last_batch_counts_with_the_mean_size():
    # Ten examples, 2B = 6: an epoch has halves of 3 and of 2 examples. The log weighs by size.
    gradients = np.random.default_rng(2).normal(0.3, 1.0, (10, 4))
    full, spread = gradients.mean(axis=0), gradients.var(axis=0, ddof=1).sum()
    expected = {size: spread / size for size in (3, 2)}  # see the test above
    noise = np.average(list(expected.values()), weights=[3, 2])
    raw_signal = full @ full - spread / 10
    corrected = correct_signal(raw_signal, noise, 2.5, 10, "shuffled_epochs")
    np.testing.assert_allclose(corrected, full @ full, rtol=1e-12)


def test_fixed_order_is_left_alone():
    assert correct_signal(1.0, 2.0, 4, 8, "fixed_order") == 1.0
    assert correct_noise(2.0, 4, 8, "fixed_order") == 2.0


@pytest.mark.parametrize(
    "correct",
    [
        lambda *a: correct_signal(1.0, *a),
        correct_noise,
        lambda noise, *a: noise_and_signal_for_scaling(noise, 1.0, *a)[0],
    ],
)
def test_corrections_refuse_what_cannot_be(correct):
    with pytest.raises(ValueError, match=r"`mode` must be one of .*Received: mode='shuffled'"):
        correct(1.0, 2, 5, "shuffled")
    with pytest.raises(ValueError, match=r"`batch_size` must be a number > 0. Received"):
        correct(1.0, 0, 5, "with_replacement")
    with pytest.raises(ValueError, match=r"`num_examples` must be an integer >= 1. Received"):
        correct(1.0, 2, 5.5, "with_replacement")
    with pytest.raises(ValueError, match="must not exceed `num_examples`.*Received: batch_size=6"):
        correct(1.0, 6, 5, "shuffled_epochs")
    assert correct(1.0, 6, 5, "with_replacement") == 1.0


def test_halves_of_all_examples_have_no_noise():
    with pytest.raises(ValueError, match="a half that holds all examples has no noise.*Received"):
        correct_noise(0.0, 5, 5, "without_replacement")
