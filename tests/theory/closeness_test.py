"""Tests of `closeness` of keras_svag/theory/validity.py."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_svag.theory import QUANTITIES, closeness, judge, ratio_interval
from tests.theory.helpers import coverage_error, interval_of

SQRT2 = math.sqrt(2)


POSITIVE = st.floats(0.01, 100.0)


# Closeness of two sets of runs.


def runs(rng, spread, count=4, **centers):
    return {q: centers.get(q, 1.0) * np.exp(rng.normal(0, spread, count)) for q in QUANTITIES}


def test_closeness_is_the_largest_factor_either_way():
    a = {"weight_norm": [1.0, 1.0], "gradient_noise": [3.0, 3.0], "gradient_signal": [0.2, 0.2]}
    b = {name: [1.0, 1.0] for name in a}
    np.testing.assert_allclose(interval_of(closeness(a, b)), 5.0)
    np.testing.assert_allclose(interval_of(closeness(b, a)), 5.0)
    assert interval_of(closeness(a, a)) == pytest.approx([1.0, 1.0, 1.0])


def test_closeness_ends_are_welchs():
    rng = np.random.default_rng(0)
    a, b = runs(rng, 0.05, gradient_noise=0.5), runs(rng, 0.1, count=6)
    welch = {}
    for level in (0.9, 1 - 0.1 / 3):
        test = stats.ttest_ind(
            np.log(a["gradient_noise"]), np.log(b["gradient_noise"]), equal_var=False
        )
        welch[level] = test.confidence_interval(level)
    got = closeness(a, b, 0.9)
    assert got.mean == pytest.approx(
        stats.gmean(b["gradient_noise"]) / stats.gmean(a["gradient_noise"])
    )
    assert got.ci_high == pytest.approx(math.exp(-welch[0.9].low))
    assert got.ci_low == pytest.approx(math.exp(-welch[1 - 0.1 / 3].high))
    back = closeness(b, a, 0.9)
    np.testing.assert_allclose(interval_of(got), interval_of(back))


def test_closeness_errs_at_most_as_it_says():
    # All three quantities differ by the same factor, where the lower end errs most often: each of
    # its three may, hence Bonferroni, at most 2.5 % together. 0.01 for Welch's approximation.
    rng = np.random.default_rng(2)
    count, truth = 1000, 1.5
    below = above = 0
    for _ in range(count):
        centers = {"weight_norm": truth, "gradient_noise": 1 / truth, "gradient_signal": truth}
        interval = closeness(runs(rng, 0.1, **centers), runs(rng, 0.1))
        below += interval.ci_high < truth
        above += interval.ci_low > truth
    for errors in (below, above):
        assert errors / count < 0.025 + 0.01 + coverage_error(0.025, count)
    # One quantity that differs, where the upper end errs most often.
    below = 0
    for _ in range(count):
        interval = closeness(runs(rng, 0.1, gradient_signal=truth), runs(rng, 0.1))
        below += interval.ci_high < truth
    assert below / count < 0.025 + 0.01 + coverage_error(0.025, count)


@given(st.lists(POSITIVE, min_size=2, max_size=6), st.lists(POSITIVE, min_size=2, max_size=6))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_closeness_contains_its_estimate_and_agrees_with_the_verdict(a, b):
    a, b = {"weight_norm": a}, {"weight_norm": b}
    interval = closeness(a, b)
    assert 1 <= interval.ci_low <= interval.mean * (1 + 1e-12)
    assert interval.mean <= interval.ci_high * (1 + 1e-12)
    if interval.ci_high < 1e6:
        # Closeness C is what the verdict is about: valid just above the upper end, not below.
        assert judge(a, b, interval.ci_high * 1.001).verdict == "valid"
        if interval.ci_high * 0.999 > 1:
            assert judge(a, b, interval.ci_high * 0.999).verdict != "valid"
    ratio = ratio_interval(a["weight_norm"], b["weight_norm"])
    assert interval.mean == pytest.approx(max(ratio.mean, 1 / ratio.mean))


def test_closeness_that_cannot_be_had():
    ones = {q: [1.0, 1.0] for q in QUANTITIES}
    negative = {**ones, "gradient_signal": [1.0, -1.0]}
    assert interval_of(closeness(ones, negative)) == [math.inf, 1.0, math.inf]
    one_seed = closeness({"weight_norm": [2.0]}, {"weight_norm": [1.0]})
    assert interval_of(one_seed) == pytest.approx([2.0, 1.0, math.inf])


def test_closeness_refuses_other_quantities():
    with pytest.raises(ValueError, match=r"`a` and `b` must be dicts.*Received: a with \['x'\], b"):
        closeness({"x": [1.0]}, {"y": [1.0]})
    with pytest.raises(ValueError, match="Received"):
        closeness({}, {})
