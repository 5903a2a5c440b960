"""Verdicts as functions of one number per run: what they rest on, and that they seldom err."""

import itertools
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
from keras_svag.theory.statistics.order import fit_errors
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.limit import extrapolations
from keras_svag.theory.verdicts.looks import spent_at
from keras_svag.theory.verdicts.noisy_gradient_descent import judge_noisy_gradient_descent
from keras_svag.theory.verdicts.scaling import judge_scaling
from keras_svag.theory.verdicts.sde import judge_sde

C = math.sqrt(2)
ELLS = (1, 2, 4, 8)


def seeds(mean, spread=0.01, count=4):
    """Numbers with exactly this mean and standard deviation, relative to the mean."""
    values = np.arange(count) - (count - 1) / 2
    return mean * (1 + spread * values / values.std(ddof=1))


def study(error, spread=0.01, count=4, limit=1.0, ells=ELLS):
    """SVAG whose means are `limit (1 + error(ell))`."""
    return {ell: seeds(limit * (1 + error(ell)), spread, count) for ell in ells}


# Contrasts.


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


def test_ratio_covers_the_truth():
    """95 % in 4,000 samples, with an extrapolation below: within three standard errors, 1 %."""
    generator, hits = np.random.default_rng(2), 0
    for _ in range(4000):
        samples = [generator.normal(mean, 0.2, 6) for mean in (1.5, 1.25, 1.125)]
        interval = Ratio(IndependentSamples(samples), (1, 0, 0), (0, -1, 2)).interval(0.025)
        hits += interval.ci_low <= 1.5 <= interval.ci_high
    assert abs(hits / 4000 - 0.95) < 0.0104


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


def failing(ell, count, of=4):
    values = study(lambda ell: 0.0, count=of)
    values[ell] = np.where(np.arange(of) < count, np.nan, values[ell])
    return {"weight_norm": values, "gradient_noise": {e: 2 * x for e, x in values.items()}}


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


# What is said, with its figures.


def test_reasons_of_the_sde_verdict_name_what_they_rest_on():
    def both(error, spread=0.01):
        return {
            "weight_norm": study(lambda ell: 0.0, spread),
            "my_loss": study(error, spread),
        }

    agrees = judge_sde(both(lambda ell: 0.1 / ell))
    ratio = agrees.ratios["my_loss"]
    assert agrees.reason == (
        f"agrees with the SDE in squared weight norm R (ratio {agrees.ratios['weight_norm']}) and "
        f"my loss (ratio {ratio})."
    )
    assert ratio.mean == pytest.approx(1.1)
    differs = judge_sde(both(lambda ell: 1.0 / ell))
    assert differs.reason == f"differs from the SDE in my loss (ratio {differs.ratios['my_loss']})."
    unclear = judge_sde(both(lambda ell: 0.4 / ell, 0.03))
    assert unclear.verdict == "inconclusive" and unclear.remedy == "seeds"
    assert f"nor to differ from it in my loss (ratio {unclear.ratios['my_loss']})" in unclear.reason
    assert "weight norm" not in unclear.reason and "More seeds" in unclear.reason


def test_reasons_of_failed_runs_count_them():
    some = failing(1, 1)
    for of_ell in some.values():
        of_ell[8] = np.where(np.arange(4) < 2, np.nan, of_ell[8])
    reason = judge_sde(some).reason
    assert "some runs failed (1 at ell = 1 and 2 at ell = 8 failed)" in reason
    assert "(3 at ell = 2 failed)" in judge_sde(failing(2, 3)).reason
    assert judge_sde(failing(1, 4)).reason == "diverged in every run, and SVAG in none."
    few = {"loss": study(lambda ell: 0.0, ells=(1, 2, 4))}
    assert "takes 3 ells above 1, and there are 2." in judge_sde(few).reason
    one_seed = {"loss": {ell: [1.0] for ell in ELLS}}
    assert judge_sde(one_seed).remedy == "seeds" and "at some ell." in judge_sde(one_seed).reason
    assert judge_sde(failing(2, 3)).remedy is None


def test_runs_at_an_ell_below_one_are_no_obstacle():
    values = {"loss": {0.5: [1.0, math.nan], **study(lambda ell: 0.0)}}
    verdict = judge_sde(values)
    assert verdict.verdict == "inconclusive" and verdict.failed[0.5] == 1
    values["loss"][0.5] = [1.0]
    assert judge_sde(values).verdict == "valid"


def test_reasons_of_the_scaling_verdict_count_failed_runs():
    good, half = {"R": seeds(1.0)}, {"R": np.array([1.0, 1.01, np.nan, np.nan])}
    found = judge_scaling(good, half)
    assert found.reason == f"2 of 8 runs failed; of the others, R (ratio {found.ratios['R']})."
    assert judge_scaling(good, good).reason == f"R (ratio {judge_scaling(good, good).ratios['R']})."
    assert found.finished == (4, 2)
    gone = judge_scaling(good, {"R": np.full(4, np.nan)})
    assert gone.reason == "every run diverged." and gone.ratios == {}
    assert (gone.finished, gone.failed) == ((4, 0), (0, 4))
    # A single run may have failed by chance, and a base that failed too says nothing.
    assert judge_scaling(good, {"R": [np.nan]}).verdict == "inconclusive"
    assert judge_scaling(half, {"R": np.full(4, np.nan)}).verdict == "inconclusive"
    assert "fewer than two runs" in judge_scaling(good, {"R": [1.0, np.nan]}).reason


def test_difference_is_corrected_for_the_number_of_quantities():
    """Beyond the limit at 2.5 %, not at a fifth of it: alone a difference, among five none."""
    beyond, same = seeds(1.55, 0.05), seeds(1.0, 0.01)
    assert judge_scaling({"a": same}, {"a": beyond}, closeness=1.4).verdict == "fails"
    base = dict.fromkeys("abcde", same)
    among = judge_scaling(base, {**base, "a": beyond}, closeness=1.4)
    assert among.verdict == "inconclusive"
    far = judge_scaling(base, {**base, "a": seeds(2.0, 0.05)}, closeness=1.4)
    assert far.verdict == "fails"


def test_every_quantity_of_noise_has_its_own_outcome():
    good = seeds(1.0, 0.01, 8)
    first = {"same": good, "other": seeds(2.0, 0.01, 8), "wide": seeds(1.0, 0.5, 8)}
    second = {"same": good, "other": good, "wide": seeds(1.0, 0.5, 8)[::-1]}
    found = judge_noisy_gradient_descent(first, second, 0.25)
    assert found.outcomes == {
        "same": "equivalent",
        "other": "different",
        "wide": "inconclusive",
    }
    assert found.verdict == "different" and found.limits == (0.8, 1.25)
    assert (found.num_pairs, found.failed) == (8, 0)
    assert judge_noisy_gradient_descent({"a": [1.0]}, {"a": [1.0]}, 0.1).ratios == {}
    half = {"same": np.where(np.arange(8) < 2, np.nan, good)}
    part = judge_noisy_gradient_descent({"same": good}, half, 0.25)
    assert part.outcomes == {"same": "inconclusive"} and part.num_pairs == 6


@pytest.mark.parametrize("of", [lambda x: x, lambda x: x[::-1]])
def test_measured_closeness_is_the_largest_factor_either_way(of):
    pairs = of([("above", seeds(1.25, 0.01)), ("below", seeds(0.6, 0.01))])
    values = {name: {**study(lambda ell: 0.0), 1: first} for name, first in pairs}
    found = judge_sde(values)
    low, high = found.ratios["below"].ci_low, found.ratios["below"].ci_high
    assert found.measured_closeness.mean == pytest.approx(1 / 0.6)
    assert found.measured_closeness.ci_high == pytest.approx(1 / low)
    # Either lower end may err, so it is that of half the level, as at the next look.
    next_look = judge_sde(values, look=2).ratios["below"]
    assert found.measured_closeness.ci_low == pytest.approx(1 / next_look.ci_high)
    assert 1 / next_look.ci_high < 1 / high
    around = judge_sde({"loss": study(lambda ell: 0.0)}).measured_closeness
    assert around.ci_low == 1.0 < around.ci_high
    nothing = judge_sde({"loss": study(lambda ell: 0.0, ells=(1, 2))}).measured_closeness
    assert math.isnan(nothing.mean) and (nothing.ci_low, nothing.ci_high) == (1.0, math.inf)


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


# The order of weak errors.


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


def test_errors_without_spread():
    values = {ell: [2 + 0.5 / ell] * 3 for ell in ELLS}
    fit = fit_errors(values, [2.0] * 3)
    assert fit.first.mean == pytest.approx(0.5) and fit.second.mean == pytest.approx(0, abs=1e-9)
    assert fit.order.mean == pytest.approx(1) and math.isnan(fit.lack_of_fit)
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


def test_pairs_of_ells_are_consecutive():
    samples = {float(ell): seeds(1.0) for ell in (2, 4, 8, 16)}
    found = extrapolations(samples, list(samples), 0.025)
    assert [e.ells for e in found] == list(itertools.pairwise(samples))
