"""What verdicts say beside their word: reasons with their figures, and measured closeness."""

import math

import numpy as np
import pytest

from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.noisy_gradient_descent import judge_noisy_gradient_descent
from keras_svag.theory.verdicts.scaling import judge_scaling
from keras_svag.theory.verdicts.sde import judge_sde
from tests.theory.helpers import ELLS, failing, seeds, study


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


def test_measured_closeness_of_what_has_no_ratio():
    # SVAG beyond its limit of zero: SGD may be any factor away, or none.
    values = {"loss": {1: seeds(1.0), 2: seeds(-0.1), 4: seeds(-0.1), 8: seeds(-0.1)}}
    found = judge_sde(values).measured_closeness
    assert (found.mean, found.ci_low, found.ci_high) == (math.inf, 1.0, math.inf)
    values = {"accuracy": study(lambda ell: 0.0)}
    limits = {"accuracy": Criterion.within_difference(0.1)}
    verdict = judge_sde(values, criteria=limits)
    found = verdict.measured_closeness
    assert math.isnan(found.mean) and (found.ci_low, found.ci_high) == (1.0, math.inf)
    difference = verdict.ratios["accuracy"]
    assert verdict.reason == f"agrees with the SDE in accuracy (difference {difference})."


# Few runs.


def test_two_runs_are_enough_and_one_is_not():
    two = judge_sde({"loss": study(lambda ell: 0.0, 1e-4, count=2)})
    assert two.verdict == "valid"
    pair = {"loss": seeds(1.0, 1e-4, 2)}
    assert judge_scaling(pair, pair).verdict == "holds"
    assert judge_noisy_gradient_descent(pair, pair, 0.1).verdict == "equivalent"
    single = {"loss": [1.0, math.nan]}
    scaling = judge_scaling(single, pair)
    assert (scaling.verdict, scaling.ratios) == ("inconclusive", {})
    noise = judge_noisy_gradient_descent(single, pair, 0.1)
    assert (noise.verdict, noise.ratios, noise.outcomes) == ("inconclusive", {}, {})
    assert (noise.num_pairs, noise.failed) == (1, 1)


@pytest.mark.parametrize(("sgd", "verdict"), [([], None), ([math.nan], None), ([math.nan] * 2, 1)])
def test_sgd_that_diverged_once_may_have_had_bad_luck(sgd, verdict):
    values = {ell: seeds(1.0) for ell in (2, 4, 8)} | ({1: sgd} if sgd else {})
    found = judge_sde({"loss": values})
    assert found.verdict == ("invalid" if verdict else "inconclusive")
    assert found.ratios == {} and len(found.extrapolations["loss"]) == 2
    if not verdict:
        assert "fewer than two runs finished" in found.reason
        assert found.remedy == (None if sgd else "seeds")


def test_null_is_a_run_that_failed():
    # As JSON has it.
    lost = [1.0, None, 1.01]
    assert judge_sde({"loss": {**study(lambda ell: 0.0), 4: lost}}).failed[4] == 1
    assert judge_scaling({"loss": lost}, {"loss": lost}).failed == (1, 1)
    assert judge_noisy_gradient_descent({"loss": lost}, {"loss": lost}, 0.1).failed == 1


def test_a_quantity_without_runs_is_refused():
    with pytest.raises(ValueError, match="`values` must be a dict from quantity to a dict from"):
        judge_sde({"R": {}, "N": {1: [1.0]}})


def test_noise_takes_criteria_and_the_first_look():
    first, second = {"accuracy": seeds(0.9, 1e-3)}, {"accuracy": seeds(0.87, 1e-3)[::-1]}
    assert judge_noisy_gradient_descent(first, second, 0.1).verdict == "equivalent"
    near = {"accuracy": Criterion.within_difference(0.02)}
    found = judge_noisy_gradient_descent(first, second, 0.1, criteria=near)
    assert found.verdict == "different"
    assert found.ratios["accuracy"].mean == pytest.approx(0.03)
    looks = [judge_noisy_gradient_descent(first, second, 0.1, look=k).ratios for k in (1, 2)]
    assert judge_noisy_gradient_descent(first, second, 0.1).ratios == looks[0] != looks[1]
    scaled = [judge_scaling(first, second, look=k).ratios for k in (1, 2)]
    assert judge_scaling(first, second).ratios == scaled[0] != scaled[1]
    values = {"loss": study(lambda ell: 0.1 / ell)}
    of_sde = [judge_sde(values, look=k).ratios for k in (1, 2)]
    assert judge_sde(values).ratios == of_sde[0] != of_sde[1]
