"""Tests of keras_svag/theory/statistics/order.py: weak errors, their fit and their order."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_svag.theory.statistics.order import fit_errors
from tests.theory.helpers import ELLS, seeds


def test_errors_of_order_one_and_two_are_fitted_exactly():
    values = {ell: seeds(2 + 0.5 / ell - 0.3 / ell**2, 1e-6) for ell in ELLS}
    fit = fit_errors(values, seeds(2.0, 1e-6), paired=True)
    assert fit.first.mean == pytest.approx(0.5, abs=1e-4)
    assert fit.second.mean == pytest.approx(-0.3, abs=1e-4)
    local = math.log2((0.5 / 4 - 0.3 / 16) / (0.5 / 8 - 0.3 / 64))
    assert fit.order.mean == pytest.approx(local, abs=1e-4)


def by_hand(samples, row, paired, confidence):
    """Estimate, ends and p-value of a contrast: Student's of each seed, or Welch's."""
    if paired:
        contrast = row @ np.array(samples)
        test = stats.ttest_1samp(contrast, 0.0)
        estimate, error, dof = contrast.mean(), stats.sem(contrast), len(contrast) - 1
    else:
        parts = np.array([c**2 * x.var(ddof=1) / len(x) for c, x in zip(row, samples)])
        estimate = sum(c * x.mean() for c, x in zip(row, samples))
        error = math.sqrt(parts.sum())
        dof = parts.sum() ** 2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, samples))
        test = None
    half = stats.t.ppf((1 + confidence) / 2, dof) * error
    p_value = test.pvalue if test else 2 * stats.t.sf(abs(estimate) / error, dof)
    return (estimate, estimate - half, estimate + half), p_value


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("ells", [(1, 2), (1, 2, 8), (2, 3, 4, 16)], ids=str)
def test_fit_of_errors_is_weighted_least_squares(paired, ells):
    generator = np.random.default_rng(len(ells))
    counts = [6] * (len(ells) + 1) if paired else [6, 4, 9, 5][: len(ells)] + [7]
    samples = [generator.normal(1e3 * (2 + 0.4 / ell), 30, n) for ell, n in zip(ells, counts)]
    samples.append(generator.normal(2e3, 90, counts[-1]))
    given = dict(reversed(list(zip(ells, samples))))  # in any order
    fit = fit_errors(given, samples[-1], paired, confidence=0.9)
    # One variance for all ells, their mean, and that of the reference.
    spreads = [np.mean([x.var(ddof=1) for x in samples[:-1]])] * len(ells)
    spreads.append(samples[-1].var(ddof=1))
    root = np.sqrt(np.array(counts) / spreads)

    def estimators(terms):
        inverse = np.array([*(1 / ell for ell in ells), 0.0])
        design = np.stack([inverse**k for k in range(terms + 1)], 1)
        return np.stack(
            [np.linalg.lstsq(design * root[:, None], root * unit)[0] for unit in np.eye(len(root))],
            1,
        )

    def same(interval, row):
        expected, _ = by_hand(samples, row, paired, 0.9)
        ends = (interval.mean, interval.ci_low, interval.ci_high)
        np.testing.assert_allclose(ends, expected, rtol=1e-7)

    same(fit.first, estimators(2)[1])
    same(fit.second, estimators(2)[2])
    assert list(fit.errors) == [float(ell) for ell in ells]
    for index, ell in enumerate(ells):
        row = np.zeros(len(samples))
        row[index], row[-1] = 1.0, -1.0
        same(fit.errors[ell], row)
    if len(ells) < 3:
        assert math.isnan(fit.lack_of_fit)
    else:
        _, p_value = by_hand(samples, estimators(3)[3], paired, 0.9)
        assert fit.lack_of_fit == pytest.approx(p_value)
    # The order is that of the ratio of the last two errors, each of its ends.
    small, large, last = (stats.describe(x).mean for x in samples[-3:])
    order = math.log((small - last) / (large - last)) / math.log(ells[-1] / ells[-2])
    assert fit.order.mean == pytest.approx(order)
    for end in (fit.order.ci_low, fit.order.ci_high):
        if math.isfinite(end):
            ratio = (ells[-1] / ells[-2]) ** end
            row = np.array([*[0.0] * (len(ells) - 2), 1.0, -ratio, ratio - 1.0])
            _, p_value = by_hand(samples, row, paired, 0.9)
            assert p_value == pytest.approx(0.1, rel=1e-4)


def test_errors_below_zero_have_an_order_too():
    values = {ell: seeds(2 - 0.5 / ell, 1e-6) for ell in ELLS}
    assert fit_errors(values, seeds(2.0, 1e-6), paired=True).order.mean == pytest.approx(
        1, abs=1e-3
    )


def test_errors_that_grow_have_a_negative_order():
    values = {2: seeds(2.1, 1e-6), 4: seeds(2.1, 1e-6), 8: seeds(2.2, 1e-6)[::-1]}
    order = fit_errors(values, seeds(2.0, 1e-6), paired=True).order
    assert order.mean == pytest.approx(-1, abs=1e-3)
    assert order.ci_low < order.mean < order.ci_high < 0


def test_an_order_of_an_error_that_is_gone_has_no_lower_end():
    values = {4: [2.0, 2.1, 1.95], 8: [2.5, 2.5, 2.5001]}
    order = fit_errors(values, [2.0, 2.0, 2.0001]).order
    assert order.ci_low == -math.inf and math.isfinite(order.ci_high)


def test_errors_without_spread():
    values = {ell: [2 + 0.5 / ell] * 3 for ell in ELLS}
    fit = fit_errors(values, [2.0] * 3)
    assert fit.first.mean == pytest.approx(0.5) and fit.second.mean == pytest.approx(0, abs=1e-9)
    assert fit.order.mean == pytest.approx(1) and math.isnan(fit.lack_of_fit)
    exact = fit_errors({2: [4.0, 4.0], 4: [2.0, 2.0]}, [1.0, 1.0])
    assert exact.order.mean == pytest.approx(math.log2(3))
    assert fit_errors({1: [0.0, 0.0], 2: [0.0, 0.0]}, [0.0, 0.0]).first.mean == 0.0
    # A reference without spread still counts no more than a million times as much.
    exact = fit_errors({ell: seeds(2 + 0.5 / ell) for ell in ELLS}, [2.0] * 4)
    assert exact.first.mean == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "reference", "paired"),
    [
        ({1: [1.0, 2.0]}, [1.0, 2.0], False),
        ({1: [1.0, 2.0], 2: [1.0]}, [1.0, 2.0], False),
        ({1: [1.0, 2.0], 2: [1.0, 2.0]}, [1.0], False),
        ({1: [1.0, 2.0], 2: [1.0, 2.0]}, [1.0, 2.0, 3.0], True),
    ],
)
def test_errors_of_too_few(values, reference, paired):
    with pytest.raises(ValueError, match="at least two ells.*Received: numbers of seeds"):
        fit_errors(values, reference, paired)
    fit_errors({1: [1.0, 2.0], 2: [1.0, 2.0]}, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_errors_of_numbers_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="must be finite numbers.*Received"):
        fit_errors({1: [1.0, bad], 2: [1.0, 2.0]}, [1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite numbers.*Received"):
        fit_errors({1: [1.0, 2.0], 2: [1.0, 2.0]}, [1.0, bad])


def test_lack_of_fit_is_seen():
    values = {ell: seeds(2 + 0.5 / ell**0.5, 1e-4) for ell in (1, 2, 4, 8, 16)}
    assert fit_errors(values, seeds(2.0, 1e-4), paired=True).lack_of_fit < 1e-3


def test_an_error_that_may_be_zero_has_an_order_without_end():
    values = {ell: seeds(2 + 0.01 / ell, 0.05) for ell in ELLS}
    assert fit_errors(values, seeds(2.0, 0.05)[::-1]).order.ci_high == math.inf


def test_order_is_covered():
    """95 +- 1.5 % of 2,000 studies whose errors share a noisy reference (three standard errors)."""
    generator, hits = np.random.default_rng(6), 0
    error = {ell: 0.3 / ell + 0.2 / ell**2 for ell in ELLS}
    order = math.log2(error[4] / error[8])
    for _ in range(2000):
        values = {ell: 1 + error[ell] + generator.normal(0, 0.02, 8) for ell in ELLS}
        interval = fit_errors(values, generator.normal(1, 0.02, 8)).order
        hits += interval.ci_low <= order <= interval.ci_high
    assert abs(hits / 2000 - 0.95) < 0.015
