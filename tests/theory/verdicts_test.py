"""Verdicts as functions of one number per run: what they rest on, and that they seldom err."""

import itertools
import math

import numpy as np
import pytest

from keras_svag.theory.statistics.contrasts import IndependentSamples, PairedSamples, Ratio
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.limit import (
    comparisons_with_limit,
    estimate_limit,
    extrapolate,
    extrapolations,
)
from keras_svag.theory.verdicts.looks import spent_at
from keras_svag.theory.verdicts.noisy_gradient_descent import judge_noisy_gradient_descent
from keras_svag.theory.verdicts.scaling import judge_scaling
from keras_svag.theory.verdicts.sde import judge_sde
from tests.theory.helpers import ELLS, failing, seeds, study

# The limit of SVAG.


def test_extrapolations_are_exact_at_order_one():
    values = {q: study(lambda ell: 0.5 / ell, limit=3.0) for q in ("weight_norm",)}
    [found] = judge_sde(values).extrapolations.values()
    assert [e.ells for e in found] == [(2, 4), (4, 8)]
    np.testing.assert_allclose([e.limit.mean for e in found], 3.0, rtol=1e-12)
    assert math.isnan(found[0].disagreement) and abs(found[1].disagreement) < 1e-12


@pytest.mark.parametrize("order", [0.5, 0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("ratio", [0.6, 1.3, 1.5, 3.0])
@pytest.mark.parametrize("ells", [ELLS, (1, 4, 8, 16), (1, 2, 6, 24)])
def test_interval_holds_the_truth_at_every_order(order, ratio, ells):
    """Without noise: the limit is 1, SGD is at `ratio`, and the error falls as l^-order."""
    values = {"loss": study(lambda ell: (ratio - 1) * ell**-order, 1e-9, ells=ells)}
    interval = judge_sde(values).ratios["loss"]
    assert interval.ci_low * (1 - 1e-6) <= ratio <= interval.ci_high * (1 + 1e-6)


def test_orders_beyond_one_half_to_two_are_not_promised():
    """What the interval leaves out is what the docs say it leaves out."""
    values = {"loss": study(lambda ell: 0.5 * ell**-0.2, 1e-9)}
    assert judge_sde(values).ratios["loss"].ci_high < 1.5


def test_extrapolations_that_disagree_widen_the_interval():
    """A slow start, l = 2, 4, 8 far from asymptotic: the error is 4/(l + 3) of that at l = 1."""
    values = {"loss": study(lambda ell: 0.5 * 4 / (ell + 3), 0.003)}
    verdict = judge_sde(values)
    assert verdict.verdict == "inconclusive" and verdict.remedy == "ell"
    assert verdict.ratios["loss"].ci_low < 1.5 < verdict.ratios["loss"].ci_high


def test_the_limit_may_be_off_by_what_the_extrapolations_disagree():
    values = study(lambda ell: 0.5 * 4 / (ell + 3), 1e-9)
    one, two, four, eight = (values[ell].mean() for ell in ELLS)
    first, second = 2 * four - two, 2 * eight - four
    middle, slack = (first + second) / 2, 1.5 * abs(second - first)
    found = judge_sde({"loss": values}).ratios["loss"]
    assert found.mean == pytest.approx(one / middle)
    assert found.ci_low == pytest.approx(one / (middle + slack), rel=1e-6)
    assert found.ci_high == pytest.approx(one / (middle - slack), rel=1e-6)


@pytest.mark.parametrize("spread", [0.001, 0.01, 0.05])
def test_disagreement_counts_beyond_one_standard_error(spread):
    values = study(lambda ell: 0.5 * 4 / (ell + 3), spread)
    [estimate, *_] = comparisons_with_limit(values, [2, 4, 8], Criterion.within_factor(2.0))
    two, four, eight = (values[ell] for ell in (2, 4, 8))
    # E1 - E0 = (2 Q(8) - Q(4)) - (2 Q(4) - Q(2))
    change = 2 * eight.mean() - 3 * four.mean() + two.mean()
    parts = [c * x.std(ddof=1) / 2 for c, x in ((2, eight), (3, four), (1, two))]
    error = math.hypot(*parts)
    assert estimate.slack == pytest.approx(1.5 * max(abs(change) - error, 0.0))
    assert (estimate.slack == 0.0) == (spread == 0.05)


def test_limit_of_three_ells_that_double_is_the_intercept_of_the_line():
    generator = np.random.default_rng(7)
    values = {ell: generator.normal(1 + 0.3 / ell, 0.1, 6) for ell in (1.0, 2.0, 4.0, 8.0)}
    limit = estimate_limit(values, [1.0, 2.0, 4.0, 8.0], 0.05)
    means = [values[ell].mean() for ell in (2.0, 4.0, 8.0)]
    _, intercept = np.polyfit([1 / 2, 1 / 4, 1 / 8], means, 1)
    assert limit.mean == pytest.approx(intercept)
    samples = IndependentSamples([values[ell] for ell in (2.0, 4.0, 8.0)])
    assert limit.ci_high == pytest.approx(samples.upper((-0.5, 0.5, 1.0), 0.05))


def test_extrapolation_of_arrays():
    ells, order_one = (3, 5), np.array([[2, -1], [0, 4]])
    given = [(1 + order_one / ell).tolist() for ell in ells]
    np.testing.assert_allclose(extrapolate(3, given[0], 5, given[1]), np.ones((2, 2)))
    assert extrapolate(1, [3], 2, [2]).tolist() == [1.0]


def test_extrapolations_relative_to_the_limit():
    samples = {2.0: seeds(1.5), 4.0: seeds(1.3), 8.0: seeds(1.1), 16.0: seeds(1.1)}
    found = extrapolations(samples, list(samples), 0.025)
    limits = [2 * b - a for a, b in ((1.5, 1.3), (1.3, 1.1), (1.1, 1.1))]
    np.testing.assert_allclose([e.limit.mean for e in found], limits)
    expected = [(0.9 - 1.1) / 0.9, (1.1 - 0.9) / 1.1]
    np.testing.assert_allclose([e.disagreement for e in found[1:]], expected)
    zero = {2.0: np.full(3, 1.0), 4.0: np.full(3, 1.0), 8.0: np.full(3, 0.5)}
    assert math.isnan(extrapolations(zero, list(zero), 0.025)[1].disagreement)
    below = {ell: -x for ell, x in samples.items()}
    assert extrapolations(below, list(below), 0.025)[1].disagreement == pytest.approx(0.2 / 0.9)


def test_fewer_than_three_ells_above_one_are_no_check():
    values = {"loss": study(lambda ell: 0.0, ells=(1, 4, 8))}
    verdict = judge_sde(values)
    assert (verdict.verdict, verdict.remedy) == ("inconclusive", "ell")


@pytest.mark.parametrize(
    ("ratio", "spread", "expected"),
    [
        (1.2, 0.01, "valid"),
        (2.0, 0.01, "invalid"),
        (0.5, 0.01, "invalid"),
        (1.0, 0.3, "inconclusive"),
    ],
)
def test_words(ratio, spread, expected):
    values = {"loss": study(lambda ell: (ratio - 1) / ell, spread)}
    verdict = judge_sde(values)
    assert verdict.verdict == expected
    assert (verdict.remedy is not None) == (expected == "inconclusive")


def test_more_seeds_where_the_spread_is_in_the_way():
    values = {"loss": study(lambda ell: 0.0, 0.3)}
    assert judge_sde(values).remedy == "seeds"


def test_negative_extrapolations_are_no_obstacle():
    """One seed of G beyond its mean: logs would have nothing to say."""
    generator = np.random.default_rng(3)
    values = {"gradient_signal": {ell: generator.normal(1, 0.5, 64) for ell in ELLS}}
    assert min(2 * values["gradient_signal"][8] - values["gradient_signal"][4]) < 0
    assert judge_sde(values, closeness=2.5).verdict == "valid"


# Failed runs.


@pytest.mark.parametrize(
    ("ell", "count", "expected"),
    [
        (1, 0, "valid"),
        (1, 1, "inconclusive"),
        (1, 2, "inconclusive"),
        (1, 4, "invalid"),
        (2, 1, "inconclusive"),
        (8, 2, "inconclusive"),
        (8, 4, "inconclusive"),
    ],
)
def test_failed_runs_count(ell, count, expected):
    verdict = judge_sde(failing(ell, count))
    assert verdict.verdict == expected
    assert verdict.finished[ell] == 4 - count and verdict.failed[ell] == count


def test_a_run_that_failed_in_one_quantity_failed():
    values = failing(1, 0)
    values["gradient_noise"][1] = np.array([np.inf, 2.0, 2.0, 2.0])
    assert judge_sde(values).failed[1] == 1


def test_all_failed_on_both_sides_say_nothing():
    values = failing(1, 4)
    for of_ell in values.values():
        of_ell[8] = np.full(4, np.nan)
    assert judge_sde(values).verdict == "inconclusive"


def test_scaling_counts_failed_runs():
    good, half = {"R": seeds(1.0)}, {"R": np.array([1.0, 1.01, np.nan, np.nan])}
    gone = {"R": np.full(4, np.nan)}
    assert judge_scaling(good, good).verdict == "holds"
    assert judge_scaling(good, half).verdict == "inconclusive"
    assert judge_scaling(half, good).verdict == "inconclusive"
    assert judge_scaling(good, gone).verdict == "fails"
    assert judge_scaling(gone, gone).verdict == "inconclusive"
    assert judge_scaling(good, half).failed == (0, 2)


def test_noise_counts_failed_runs():
    good, half = {"loss": seeds(1.0)}, {"loss": np.array([1.0, 1.01, np.nan, np.nan])}
    assert judge_noisy_gradient_descent(good, good, 0.1).verdict == "equivalent"
    verdict = judge_noisy_gradient_descent(good, half, 0.1)
    assert (verdict.verdict, verdict.num_pairs, verdict.failed) == ("inconclusive", 2, 2)


# Looks, and limits.


def test_all_looks_together_spend_what_one_would():
    assert sum(spent_at(look) for look in range(1, 60)) == pytest.approx(0.05)
    assert judge_sde(failing(1, 0), look=2).ratios["weight_norm"].ci_high > (
        judge_sde(failing(1, 0)).ratios["weight_norm"].ci_high
    )


def test_equivalence_does_not_depend_on_the_order():
    a, b = {"loss": seeds(0.851, 0.004, 8)}, {"loss": seeds(1.0, 0.004, 8)[::-1]}
    for margin in (0.1, 0.15, 0.2):
        there = judge_noisy_gradient_descent(a, b, margin)
        back = judge_noisy_gradient_descent(b, a, margin)
        assert there.verdict == back.verdict
        assert there.limits[0] * there.limits[1] == pytest.approx(1)


def test_a_difference_shows_in_the_interval():
    # Twice as large in every pair, but of a denominator whose interval reaches zero.
    first, second = [0.629, 1.653, 1.286], [0.21, 0.847, 0.618]
    ratio = Ratio(PairedSamples([first, second]), (1, 0), (0, 1))
    assert ratio.is_above(1.05, 0.025) and ratio.interval(0.025).ci_low < 1.05
    found = judge_noisy_gradient_descent({"loss": first}, {"loss": second}, margin=0.05)
    assert found.verdict == "inconclusive"
    assert found.ratios["loss"].ci_high == math.inf


def test_criteria_take_the_place_of_closeness():
    base, other = {"accuracy": seeds(0.9)}, {"accuracy": seeds(0.7)}
    assert judge_scaling(base, other).verdict == "holds"  # a factor 1.29
    close = {"accuracy": Criterion.within_difference(0.05)}
    assert judge_scaling(base, other, criteria=close).verdict == "fails"
    worse_only = {"accuracy": Criterion(-0.05, math.inf, "difference")}
    assert judge_scaling(other, base, criteria=worse_only).verdict == "holds"
    assert judge_scaling(base, other, criteria=worse_only).verdict == "fails"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: judge_sde({}), "values"),
        (lambda: judge_sde({"R": {1: [1.0]}}, closeness=1.0), "closeness"),
        (lambda: judge_sde({"R": {1: [1.0]}}, look=0), "look"),
        (lambda: judge_sde({"R": {0.2: [1.0]}}), "ell"),
        (lambda: judge_sde({"R": {1: [1.0]}, "N": {1: [1.0, 2.0]}}), "same runs"),
        (lambda: judge_scaling({"R": [1.0]}, {"N": [1.0]}), "same quantities"),
        (lambda: judge_noisy_gradient_descent({"R": [1.0]}, {"R": [1.0, 2.0]}, 0.1), "seeds"),
        (lambda: judge_noisy_gradient_descent({"R": [1.0]}, {"R": [1.0]}, 0.0), "margin"),
        (lambda: judge_sde({"R": {1: [1.0]}}, confidence=1.0), "confidence"),
        (
            lambda: judge_scaling({"R": [1.0]}, {"R": [1.0]}, criteria={"G": Criterion(0.5, 2.0)}),
            "criteria for G",
        ),
    ],
)
def test_wrong_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


# Error rates: false verdicts at the limits, where they are most likely. 400 studies each; three
# standard errors of a rate of 5 % are 3.3 %.


@pytest.mark.parametrize("error", [lambda ell: 1 / ell, lambda ell: ell**-0.5])
def test_sde_seldom_errs_at_its_limits(error):
    generator, wrong = np.random.default_rng(4), 0
    for _ in range(400):
        values = {
            "R": {ell: (1 + 0.5 * error(ell)) * generator.normal(1, 0.03, 16) for ell in ELLS}
        }
        for look, count in ((1, 4), (2, 8), (3, 16)):
            seen = {"R": {ell: x[:count] for ell, x in values["R"].items()}}
            verdict = judge_sde(seen, closeness=1.5, look=look).verdict
            if verdict != "inconclusive":
                break
        wrong += verdict != "inconclusive"
    assert wrong / 400 < 0.083


def test_noise_seldom_errs_at_its_margin():
    """Five quantities, all at the margin: without correction every fifth study would err."""
    generator, wrong = np.random.default_rng(5), 0
    for _ in range(400):
        first, second = (
            {q: mean * generator.normal(1, 0.02, 8) for q in "abcde"} for mean in (1.1, 1.0)
        )
        wrong += judge_noisy_gradient_descent(first, second, 0.1).verdict != "inconclusive"
    assert wrong / 400 < 0.083


def test_pairs_of_ells_are_consecutive():
    samples = {float(ell): seeds(1.0) for ell in (2, 4, 8, 16)}
    found = extrapolations(samples, list(samples), 0.025)
    assert [e.ells for e in found] == list(itertools.pairwise(samples))
