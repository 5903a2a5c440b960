"""Tests of keras_svag/datasets/sampling.py: each mode against its definition."""

import math
import warnings

import numpy as np
import pytest

from keras_svag.datasets import SAMPLING_MODES, Sampler
from keras_svag.theory.sampling_modes import (
    FIXED_ORDER,
    MODES_WITHOUT_SDE,
    SHUFFLED_EPOCHS,
    WITH_REPLACEMENT,
    WITHOUT_REPLACEMENT,
)

SDE_MODES = [mode for mode in SAMPLING_MODES if mode not in MODES_WITHOUT_SDE]


def sampler(mode, n, batch_size, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Sampler(n, batch_size, mode, seed)


def halves(rows):
    return rows[:, 0::2], rows[:, 1::2]


def within(estimate, expected, standard_error, count=4.0):
    return np.all(np.abs(np.asarray(estimate) - expected) <= count * standard_error)


# Pure function of (seed, step).


@pytest.mark.parametrize("mode", SAMPLING_MODES)
@pytest.mark.parametrize(("n", "batch_size"), [(24, 3), (25, 3), (6, 3), (1437, 8)], ids=str)
def test_rows_do_not_depend_on_chunks(mode, n, batch_size):
    whole = sampler(mode, n, batch_size, seed=5).rows(0, 200)
    assert whole.shape == (200, 2 * batch_size) and whole.dtype == np.int32
    assert whole.min() >= 0 and whole.max() < n
    rng = np.random.default_rng(0)
    cuts = np.unique([0, 200, *rng.integers(0, 200, 12)])
    chunks = [(int(a), int(b)) for a, b in zip(cuts, cuts[1:])]
    # Backwards and by another object: nothing is carried from one call to the next.
    other = sampler(mode, n, batch_size, seed=5)
    for start, stop in reversed(chunks):
        np.testing.assert_array_equal(other.rows(start, stop), whole[start:stop])
    for step in (0, 57, 199):
        np.testing.assert_array_equal(other.rows(step, step + 1)[0], whole[step])
    nothing = other.rows(40, 40)
    assert nothing.shape == (0, 2 * batch_size) and nothing.dtype == np.int32


@pytest.mark.parametrize("mode", [m for m in SAMPLING_MODES if m != FIXED_ORDER])
def test_seeds_and_epochs_differ(mode):
    one = sampler(mode, 100, 5, seed=1)
    assert not np.array_equal(one.rows(0, 10), sampler(mode, 100, 5, seed=2).rows(0, 10))
    assert not np.array_equal(one.rows(0, 10), one.rows(10, 20))  # 10 steps an epoch


def test_stream_is_the_documented_one():
    # An epoch is one table from Philox(key=[seed, epoch]), a row a step. Seeds may use all 64 bits:
    # a key given as a list of ints once turned large ones into floats, equal to their neighbours.
    seed, epoch = 2**64 - 3, 7
    stream = sampler(WITH_REPLACEMENT, 40, 4, seed)  # 5 steps an epoch
    generator = np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64)))
    np.testing.assert_array_equal(
        stream.rows(5 * epoch, 5 * epoch + 5), generator.integers(40, size=(5, 8))
    )


# With replacement: independent uniform draws.


def test_with_replacement_draws_are_uniform():
    n, steps, columns = 10, 4000, 6
    rows = sampler(WITH_REPLACEMENT, n, columns // 2).rows(0, steps)
    for column in rows.T:  # each position by itself
        counts = np.bincount(column, minlength=n)
        # Binomial(steps, 1/n).
        assert within(counts, steps / n, math.sqrt(steps / n * (1 - 1 / n)))


@pytest.mark.parametrize(
    "pair", [(0, 1), (0, 2), (1, 3), (0, 5)], ids=["halves", "half 1", "half 2", "far halves"]
)
def test_with_replacement_draws_are_independent(pair):
    n, steps = 5, 8000
    rows = sampler(WITH_REPLACEMENT, n, 3).rows(0, steps)
    cells = np.bincount(rows[:, pair[0]] * n + rows[:, pair[1]], minlength=n * n)
    p = 1 / n**2
    assert within(cells, steps * p, math.sqrt(steps * p * (1 - p)))
    # The same position, one step later (across the edges of epochs too).
    cells = np.bincount(rows[:-1, pair[0]] * n + rows[1:, pair[0]], minlength=n * n)
    assert within(cells, (steps - 1) * p, math.sqrt(steps * p * (1 - p)))


# Without replacement: anew for each half.


def test_without_replacement_has_no_repeats_in_a_half():
    n, batch_size = 12, 5
    rows = sampler(WITHOUT_REPLACEMENT, n, batch_size).rows(0, 3000)
    for half in halves(rows):
        assert all(len(set(row)) == batch_size for row in half.tolist())
        # An example is in a half with probability B / n.
        counts = np.bincount(half.ravel(), minlength=n)
        p = batch_size / n
        assert within(counts, 3000 * p, math.sqrt(3000 * p * (1 - p)))


def test_without_replacement_halves_are_independent():
    # Independent subsets of size B of n share a hypergeometric number of examples.
    n, batch_size, steps = 12, 5, 3000
    first, second = halves(sampler(WITHOUT_REPLACEMENT, n, batch_size).rows(0, steps))
    shared = np.array([len(set(a) & set(b)) for a, b in zip(first.tolist(), second.tolist())])
    mean = batch_size**2 / n
    variance = mean * (1 - batch_size / n) * (n - batch_size) / (n - 1)
    assert within(shared.mean(), mean, math.sqrt(variance / steps))
    # And with the same half of the next step.
    shared = np.array([len(set(a) & set(b)) for a, b in zip(first[:-1], first[1:])])
    assert within(shared.mean(), mean, math.sqrt(variance / (steps - 1)))


# Epochs.


def test_shuffled_epoch_is_a_permutation():
    n, batch_size = 24, 3
    stream = sampler(SHUFFLED_EPOCHS, n, batch_size)
    assert stream.steps_per_epoch == 4
    for epoch in range(20):
        rows = stream.rows(4 * epoch, 4 * epoch + 4)
        assert sorted(rows.ravel().tolist()) == list(range(n))


def test_shuffled_epoch_leaves_out_another_remainder_each_time():
    n, batch_size, epochs = 25, 3, 4000
    rows = sampler(SHUFFLED_EPOCHS, n, batch_size).rows(0, 4 * epochs).reshape(epochs, 24)
    assert all(len(set(row)) == 24 for row in rows.tolist())
    left_out = n * (n - 1) // 2 - rows.sum(axis=1)
    counts = np.bincount(left_out, minlength=n)
    assert within(counts, epochs / n, math.sqrt(epochs / n * (1 - 1 / n)))


def test_fixed_order_is_the_same_every_epoch():
    stream = sampler(FIXED_ORDER, 25, 3, seed=0)
    expected = np.arange(24).reshape(4, 6)
    for epoch in range(3):
        np.testing.assert_array_equal(stream.rows(4 * epoch, 4 * epoch + 4), expected)
    np.testing.assert_array_equal(sampler(FIXED_ORDER, 25, 3, seed=9).rows(0, 4), expected)


def test_epoch_longer_than_the_data():
    # 2 B > n: one step an epoch, and still both halves are full.
    for mode in SDE_MODES:
        stream = sampler(mode, 5, 4)
        assert stream.steps_per_epoch == 1 and stream.rows(0, 3).shape == (3, 8)


# What noise and signal estimate (DESIGN 2a).


@pytest.mark.parametrize("mode", [WITH_REPLACEMENT, WITHOUT_REPLACEMENT, SHUFFLED_EPOCHS])
def test_noise_and_signal_of_each_mode(mode):
    # Values f with mean 2 on n examples; S^2 is their variance with n - 1. The mean over a half
    # stands for a gradient of one dimension, g1 and g2; N = (g1 - g2)^2 / 2, G = g1 g2.
    n, batch_size, steps = 24, 6, 25000
    f = np.random.default_rng(3).normal(size=n)
    f += 2 - f.mean()
    s2 = f.var(ddof=1)
    g1, g2 = (f[half].mean(axis=1) for half in halves(sampler(mode, n, batch_size).rows(0, steps)))
    noise, signal = (g1 - g2) ** 2 / 2, g1 * g2
    expected_noise = {
        WITH_REPLACEMENT: f.var() / batch_size,
        WITHOUT_REPLACEMENT: s2 / batch_size * (1 - batch_size / n),
        SHUFFLED_EPOCHS: s2 / batch_size,
    }[mode]
    expected_signal = 4 - (s2 / n if mode == SHUFFLED_EPOCHS else 0)
    # Two steps an epoch in the shuffled mode depend on each other (negatively): the standard
    # error of independent steps is an upper bound there.
    assert within(noise.mean(), expected_noise, noise.std() / math.sqrt(steps))
    assert within(signal.mean(), expected_signal, signal.std() / math.sqrt(steps))
    # The test can tell the three apart: 4 standard errors are less than their distances.
    assert 4 * noise.std() / math.sqrt(steps) < s2 / batch_size / n
    assert 4 * signal.std() / math.sqrt(steps) < s2 / n


# Warnings and refusals.


@pytest.mark.parametrize("mode", SDE_MODES)
def test_modes_with_an_sde_do_not_warn(mode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Sampler(100, 8, mode)


@pytest.mark.parametrize(
    ("mode", "why"),
    [(SHUFFLED_EPOCHS, "reference run is SVAG\\(1\\)"), (FIXED_ORDER, "estimate nothing")],
)
def test_modes_without_an_sde_warn(mode, why):
    with pytest.warns(UserWarning, match=f"sampling='{mode}'.*{why}.*with_replacement") as told:
        Sampler(100, 8, mode)
    assert told[0].filename == __file__  # Python names the line of the user


def test_two_shuffled_streams_are_refused():
    message = "gradient flow.*Received: mode='two_shuffled_streams'. Use mode='with_replacement'"
    with pytest.raises(ValueError, match=message):
        Sampler(100, 8, "two_shuffled_streams")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1. Received: batch_size=0"),
        ({"batch_size": 4.0}, "Received: batch_size=4.0"),
        ({"num_examples": 0}, "`num_examples` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0. Received: seed=-1"),
        ({"mode": "shuffle"}, "must be one of 'with_replacement', .*Received: mode='shuffle'"),
        ({"mode": WITHOUT_REPLACEMENT, "batch_size": 11}, "needs at least 11.*batch_size=11"),
        ({"mode": SHUFFLED_EPOCHS, "batch_size": 6}, "needs at least 12.*batch_size=6. Use a sm"),
        ({"mode": FIXED_ORDER, "batch_size": 6}, "needs at least 12.*batch_size=6. Use a smaller"),
    ],
    ids=lambda v: "-".join(map(str, v.values())) if isinstance(v, dict) else "",
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**{"num_examples": 10, "batch_size": 2, **arguments})


@pytest.mark.parametrize(
    ("mode", "batch_size"),
    [(WITHOUT_REPLACEMENT, 10), (SHUFFLED_EPOCHS, 5), (FIXED_ORDER, 5), (WITH_REPLACEMENT, 99)],
)
def test_largest_batch_size(mode, batch_size):
    assert sampler(mode, 10, batch_size).rows(0, 3).shape == (3, 2 * batch_size)
