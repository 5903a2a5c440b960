"""Tests of keras_svag/theory/statistics/contrasts.py, and of the criteria that rest on it."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_svag.theory.statistics.contrasts import (
    Difference,
    IndependentSamples,
    PairedSamples,
    Ratio,
)
from keras_svag.theory.statistics.intervals import ratio_of_means
from keras_svag.theory.verdicts.criteria import Criterion
from tests.theory.helpers import seeds


def test_contrast_is_welch():
    """A difference of two means: SciPy's Welch test."""
    generator = np.random.default_rng(0)
    a, b = generator.normal(3, 1, 5), generator.normal(2, 4, 9)
    interval = Difference(IndependentSamples([a, b]), (1, 0), (0, 1)).interval(0.025)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose((interval.ci_low, interval.ci_high), expected, rtol=1e-9)


def test_paired_ratio_is_fieller():
    generator = np.random.default_rng(1)
    a, b = generator.normal(3, 0.3, 6), generator.normal(2, 0.2, 6)
    interval = Ratio(PairedSamples([a, b]), (1, 0), (0, 1)).interval(0.025)
    expected = ratio_of_means(a, b, 0.95)
    np.testing.assert_allclose(
        (interval.mean, interval.ci_low, interval.ci_high),
        (expected.mean, expected.ci_low, expected.ci_high),
        rtol=1e-8,
    )


@pytest.mark.parametrize("alpha", [0.1, 0.025, 0.003])
def test_ends_of_a_ratio_are_where_the_tests_turn(alpha):
    samples = IndependentSamples([seeds(3.0, 0.1), seeds(2.0, 0.1), seeds(1.9, 0.05)])
    ratio = Ratio(samples, (1, 0, 0), (0, -1, 2), slack=0.1)
    interval = ratio.interval(alpha)
    assert ratio.is_below(interval.ci_high * 1.001, alpha)
    assert not ratio.is_below(interval.ci_high * 0.999, alpha)
    assert ratio.is_above(interval.ci_low * 0.999, alpha)
    assert not ratio.is_above(interval.ci_low * 1.001, alpha)


def test_ratio_to_what_may_be_zero_has_no_upper_end():
    samples = IndependentSamples([seeds(3.0, 0.1), [-1.0, 0.2, 1.5, 0.6]])
    interval = Ratio(samples, (1, 0), (0, 1)).interval(0.025)
    assert interval.ci_high == math.inf and 0 < interval.ci_low < interval.mean


@pytest.mark.parametrize("scale", [1e-20, 1e-6, 0.3, 4.0, 1e9, 1e40])
def test_ends_of_a_ratio_have_no_scale(scale):
    first, second = seeds(3.0, 0.1), seeds(2.0, 0.1)[::-1]
    for samples in (IndependentSamples, PairedSamples):
        interval, scaled = (
            Ratio(samples([factor * first, second]), (1, 0), (0, 1)).interval(0.025)
            for factor in (1.0, scale)
        )
        for end in ("mean", "ci_low", "ci_high"):
            assert getattr(scaled, end) / scale == pytest.approx(getattr(interval, end), rel=1e-8)


def test_ratios_that_cannot_be_told():
    samples = IndependentSamples([seeds(1e40), seeds(1.0), [0.1, -0.1, 0.2], [-1.0, -1.1]])
    around_zero = Ratio(samples, (0, 0, 1, 0), (0, 1, 0, 0)).interval(0.025)
    assert around_zero.ci_low == 0.0 < around_zero.mean < around_zero.ci_high < 1.0
    negative = Ratio(samples, (0, 1, 0, 0), (0, 0, 0, 1)).interval(0.025)
    assert math.isnan(negative.mean) and negative.ci_high == math.inf
    nothing = Ratio(samples, (0, 1, 0, 0), (0, 0, 0, 0)).interval(0.025)
    assert math.isnan(nothing.mean) and nothing.ci_high == math.inf


def test_ratio_of_what_has_no_spread():
    samples = IndependentSamples([[3.0, 3.0], [2.0, 2.0, 2.0]])
    interval = Ratio(samples, (1, 0), (0, 1)).interval(0.025)
    ends = (interval.mean, interval.ci_low, interval.ci_high)
    np.testing.assert_allclose(ends, 1.5, rtol=1e-9)
    assert samples.contrast((1, 0)) == (3.0, 0.0, math.inf)


def test_variances_may_be_small_beyond_their_squares():
    small = IndependentSamples([1e-100 * seeds(1.0, 0.1), 1e-100 * seeds(1.0, 0.3, 6)])
    large = IndependentSamples([seeds(1.0, 0.1), seeds(1.0, 0.3, 6)])
    np.testing.assert_allclose(
        small.contrast((1, -2)), large.contrast((1, -2)) * np.array([1e-100, 1e-100, 1.0])
    )


def test_a_slack_is_of_the_denominator():
    samples = IndependentSamples([[3.0, 3.0], [2.0, 2.0]])
    interval = Ratio(samples, (1, 0), (0, 1), slack=0.5).interval(0.025)
    np.testing.assert_allclose((interval.ci_low, interval.ci_high), (3 / 2.5, 3 / 1.5))
    # A denominator of 2 +- 2 may be zero.
    assert Ratio(samples, (1, 0), (0, 1), slack=2.0).interval(0.025).ci_high == math.inf


def test_ratio_covers_the_truth():
    """95 % in 4,000 samples, with an extrapolation below: within three standard errors, 1 %."""
    generator, hits = np.random.default_rng(2), 0
    for _ in range(4000):
        samples = [generator.normal(mean, 0.2, 6) for mean in (1.5, 1.25, 1.125)]
        interval = Ratio(IndependentSamples(samples), (1, 0, 0), (0, -1, 2)).interval(0.025)
        hits += interval.ci_low <= 1.5 <= interval.ci_high
    assert abs(hits / 4000 - 0.95) < 0.0104


# Criteria.


def test_criteria_on_ratios_and_differences():
    a, b = seeds(1.0, 0.01), seeds(1.3, 0.01)
    samples = IndependentSamples([a, b])

    def says(criterion, first=(1.0, 0.0), second=(0.0, 1.0)):
        found = [criterion.compare(samples, first, second)]
        interval = found[0].interval(0.025)
        assert criterion.excludes(interval) == criterion.differs(found, 0.025)
        return criterion.agrees(found, 0.025), criterion.differs(found, 0.025)

    back = ((0.0, 1.0), (1.0, 0.0))
    assert says(Criterion.within_factor(1.4)) == says(Criterion.within_factor(1.4), *back)
    for criterion, there, otherwise in [
        (Criterion.within_factor(1.4), (True, False), (True, False)),
        (Criterion.within_factor(1.2), (False, True), (False, True)),
        (Criterion.within_difference(0.4), (True, False), (True, False)),
        (Criterion.within_difference(0.2), (False, True), (False, True)),
        (Criterion(0.0, 1.2), (True, False), (False, True)),
        (Criterion(0.9, math.inf), (False, True), (True, False)),
        (Criterion(-math.inf, 0.2, "difference"), (True, False), (False, True)),
        (Criterion(-0.2, math.inf, "difference"), (False, True), (True, False)),
        (Criterion(0.0, 0.2, "difference"), (False, True), (False, True)),
    ]:
        assert says(criterion) == there, criterion
        assert says(criterion, *back) == otherwise, criterion


def test_a_criterion_without_a_lowest_ratio_is_met_below_zero():
    samples = IndependentSamples([seeds(-1.0), seeds(1.0)])
    found = [Ratio(samples, (1, 0), (0, 1))]
    assert not Criterion(0.0, 2.0).differs(found, 0.025)
    assert Criterion(0.1, 2.0).differs(found, 0.025)


def test_a_claim_holds_for_all_comparisons():
    samples = IndependentSamples([seeds(1.0, 0.001), seeds(1.5, 0.001), seeds(0.5, 0.001)])
    same, above, below = (Ratio(samples, row, (1.0, 0.0, 0.0)) for row in np.eye(3).tolist())
    criterion = Criterion.within_factor(1.2)
    assert criterion.agrees([same], 0.025) and not criterion.agrees([same, above], 0.025)
    assert criterion.differs([above], 0.025) and criterion.differs([below], 0.025)
    for pair in ([same, above], [same, below], [above, below], [below, above]):
        assert not criterion.differs(pair, 0.025)


def test_a_slack_widens_a_difference_either_way():
    samples = IndependentSamples([seeds(1.0), seeds(1.3)])
    exact, loose = (Difference(samples, (1, 0), (0, 1), slack) for slack in (0.0, 0.1))
    inner, outer = exact.interval(0.025), loose.interval(0.025)
    assert outer.ci_low == pytest.approx(inner.ci_low - 0.1)
    assert outer.ci_high == pytest.approx(inner.ci_high + 0.1)
    assert inner.mean == outer.mean == pytest.approx(-0.3)


@pytest.mark.parametrize(
    ("alpha", "rows"),
    [
        (0.05, [[1.822, 1.326], [0.995, 1.371], [1.357, 1.056]]),
        (0.025, [[1.954, 2.283], [1.01, 1.165], [0.965, 0.967]]),
        (0.004, [[1.106, 1.478], [0.462, 0.325], [0.768, 0.701]]),
    ],
)
def test_limits_that_no_test_excludes_are_in_the_interval(alpha, rows):
    # With two seeds the tests turn several times: degrees of freedom change with the limit.
    ratio = Ratio(IndependentSamples(rows), (1, 0, 0), (0, -1, 2))
    interval = ratio.interval(alpha)
    limits = np.geomspace(1e-4, 1e4, 401)
    open_ = [x for x in limits if not ratio.is_above(x, alpha) and not ratio.is_below(x, alpha)]
    assert interval.ci_low <= min(open_) and max(open_) <= interval.ci_high
