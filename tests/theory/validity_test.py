"""Tests of keras_svag/theory/validity.py: extrapolation, and verdicts at their edges."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_svag import theory
from keras_svag.theory import extrapolate, judge, sde_threshold
from keras_svag.theory.quantities import DISPLAY_NAMES
from tests.theory.helpers import coverage_error

SQRT2 = math.sqrt(2)


# Extrapolation to the SDE.


@pytest.mark.parametrize(("ell_a", "ell_b"), [(1, 2), (4, 8), (2.5, 7.3)], ids=str)
def test_extrapolation_removes_the_first_order(ell_a, ell_b):
    # Q(l) = a + b / l + c / l^2 leaves a - c / (l_a l_b).
    a, b, c = np.array([2.0, 3.0]), np.array([-1.0, 0.5]), np.array([0.3, 2.0])

    def quantity(ell):
        return a + b / ell + c / ell**2

    limit = extrapolate(ell_a, quantity(ell_a), ell_b, quantity(ell_b))
    np.testing.assert_allclose(limit, a - c / (ell_a * ell_b), rtol=1e-12)


# Verdicts.


def sample(center, log_spread, count=4):
    """Values with that geometric mean and standard deviation of logs, exactly."""
    z = np.linspace(-1, 1, count)
    z = (z - z.mean()) / z.std(ddof=1) if count > 1 else z
    return np.exp(math.log(center) + log_spread * z)


def three(**ratios):
    """SGD and limit without spread whose R, N and G have the given ratios (1 if not given)."""
    sgd = {q: [ratios.get(q, 1.0)] * 2 for q in theory.QUANTITIES}
    return sgd, {q: [1.0, 1.0] for q in theory.QUANTITIES}


@pytest.mark.parametrize("quantity", theory.QUANTITIES)
@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.99, "valid"), (0.51, "valid"), (2.01, "invalid"), (0.49, "invalid")],
    ids=str,
)
def test_one_quantity_decides(quantity, ratio, verdict):
    got = judge(*three(**{quantity: ratio}), closeness=2.0)
    assert got.verdict == verdict
    assert got.measured_closeness.mean == pytest.approx(max(ratio, 1 / ratio))
    if verdict == "invalid":
        assert got.reason == (
            "differs from the SDE by more than a factor 2 in "
            f"{DISPLAY_NAMES[quantity]} (ratio {ratio:g})."
        )


def welch_half(confidence, spread, count=4):
    """Half the width of the interval of the log ratio of two samples with that spread."""
    dof = 2 * (count - 1)  # of Welch, for equal spreads
    return stats.t.ppf(0.5 + confidence / 2, dof) * spread * math.sqrt(2 / count)


@pytest.mark.parametrize("above", [True, False], ids=["above", "below"])
@pytest.mark.parametrize(
    ("edge", "inside", "outside"),
    [("valid", "valid", "inconclusive"), ("invalid", "inconclusive", "invalid")],
    ids=["upper end crosses C", "lower end crosses C"],
)
def test_verdict_at_its_edges(edge, inside, outside, above):
    # "valid": the 95 % interval lies inside. "invalid": the 1 - 0.05/3 interval lies wholly
    # outside. One per mille of shift either way decides.
    spread = 0.05
    if edge == "valid":
        center = math.log(SQRT2) - welch_half(0.95, spread)
    else:
        center = math.log(SQRT2) + welch_half(1 - 0.05 / 3, spread)
    limit = {q: sample(1.0, spread) for q in theory.QUANTITIES}
    for shift, expected in [(-1e-3, inside), (1e-3, outside)]:
        ratio = math.exp(center + shift)
        sgd = {q: sample(1.0, spread) for q in theory.QUANTITIES}
        sgd["gradient_signal"] = sample(ratio if above else 1 / ratio, spread)
        assert judge(sgd, limit).verdict == expected


def test_bonferroni_counts_the_quantities():
    # A 95 % interval just outside C: enough where it is the only one, not among three.
    spread = 0.05
    ratio = math.exp(math.log(SQRT2) + welch_half(0.95, spread) + 1e-3)
    sgd, limit = {"weight_norm": sample(ratio, spread)}, {"weight_norm": sample(1.0, spread)}
    assert judge(sgd, limit).verdict == "invalid"
    for other in ("gradient_noise", "gradient_signal"):
        sgd[other], limit[other] = sample(1.0, spread), sample(1.0, spread)
    assert judge(sgd, limit).verdict == "inconclusive"


def test_overlapping_intervals_are_no_agreement():
    # The intervals of both overlap widely, and yet nothing is shown.
    sgd = {q: sample(1.05, 0.5) for q in theory.QUANTITIES}
    got = judge(sgd, {q: sample(1.0, 0.5) for q in theory.QUANTITIES})
    assert got.verdict == "inconclusive"


def test_invalid_wins_over_undecided():
    sgd = {q: sample(1.0, 0.5) for q in theory.QUANTITIES}
    sgd["weight_norm"] = sample(3.0, 0.01)
    limit = {q: sample(1.0, 0.01) for q in theory.QUANTITIES}
    assert judge(sgd, limit).verdict == "invalid"


def test_confidence_of_the_look_is_used():
    spread = 0.05
    ratio = math.exp(math.log(SQRT2) - welch_half(0.95, spread) - 1e-3)
    sgd, limit = {"weight_norm": sample(ratio, spread)}, {"weight_norm": sample(1.0, spread)}
    assert judge(sgd, limit, confidence=0.95).verdict == "valid"
    assert judge(sgd, limit, confidence=0.98).verdict == "inconclusive"


@pytest.mark.parametrize("side", ["sgd", "limit"])
def test_value_that_is_not_positive_is_inconclusive(side):
    sgd, limit = three()
    (sgd if side == "sgd" else limit)["gradient_signal"] = [1.0, -0.1]
    got = judge(sgd, limit)
    assert got.verdict == "inconclusive"
    assert got.reason.endswith(
        "nor to differ by more: gradient signal G came out negative or zero in some seed of SGD or "
        "of the SDE. Longer runs or larger ell would make such values rarer."
    )
    assert got.measured_closeness.to_json() == {"mean": None, "ci_low": 1.0, "ci_high": None}


# Two values: t of one degree of freedom is 12.706, and exp(12.706 log 2) = 6.68e+03.
WIDE, FAR, MISSING = [0.5, 2.0], [3.0, 3.0], [1.0, -1.0]
OPEN = "was neither shown to agree with the SDE within a factor 1.41 nor to differ by more: "
# What follows "SGD", for every number of quantities that agree, differ, vary too much or are lost.
REASONS = {
    "all agree": (
        {},
        "agrees with the SDE within a factor 1.41 in every quantity (measured 1, at most 1).",
    ),
    "one differs": (
        {"gradient_noise": FAR},
        "differs from the SDE by more than a factor 1.41 in gradient noise N (ratio 3).",
    ),
    "three differ": (
        dict.fromkeys(theory.QUANTITIES, FAR),
        "differs from the SDE by more than a factor 1.41 in squared weight norm R (ratio 3), "
        "gradient noise N (ratio 3) and gradient signal G (ratio 3).",
    ),
    "one is wide": (
        {"weight_norm": WIDE},
        OPEN + "the interval of squared weight norm R (ratio 1, 0.00015 to 6.68e+03) is too wide. "
        "More seeds or longer runs would narrow it.",
    ),
    "two are wide": (
        {"weight_norm": WIDE, "gradient_signal": WIDE},
        OPEN + "the intervals of squared weight norm R (ratio 1, 0.00015 to 6.68e+03) and "
        "gradient signal G (ratio 1, 0.00015 to 6.68e+03) are too wide. More seeds or longer runs "
        "would narrow them.",
    ),
    "one seed": (
        {"weight_norm": [1.2]},
        OPEN + "the interval of squared weight norm R (ratio 1.2, unbounded) is too wide. More "
        "seeds or longer runs would narrow it.",
    ),
    "two are lost": (
        {"gradient_noise": MISSING, "gradient_signal": MISSING},
        OPEN + "gradient noise N and gradient signal G came out negative or zero in some seed of "
        "SGD or of the SDE. Longer runs or larger ell would make such values rarer.",
    ),
    "one is wide, one is lost": (
        {"weight_norm": WIDE, "gradient_signal": MISSING},
        OPEN + "the interval of squared weight norm R (ratio 1, 0.00015 to 6.68e+03) is too wide; "
        "gradient signal G came out negative or zero in some seed of SGD or of the SDE. More seeds "
        "or longer runs would narrow it. Longer runs or larger ell would make such values rarer.",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_reasons_read_as_sentences(case):
    changed, reason = REASONS[case]
    sgd, limit = three()
    assert judge(sgd | changed, limit).reason == reason


def test_measured_closeness_is_the_largest_factor_and_its_interval():
    sgd = {
        "weight_norm": sample(1.2, 0.01),
        "gradient_noise": sample(0.6, 0.02),
        "gradient_signal": sample(1.0, 0.03),
    }
    limit = {q: sample(1.0, 0.01) for q in sgd}
    got = judge(sgd, limit)
    noise = stats.ttest_ind(
        np.log(sgd["gradient_noise"]), np.log(limit["gradient_noise"]), equal_var=False
    ).confidence_interval(0.95)
    measured = got.measured_closeness
    np.testing.assert_allclose(
        [measured.mean, measured.ci_low, measured.ci_high],
        [1 / 0.6, math.exp(-noise.high), math.exp(-noise.low)],
    )


def test_error_rates_at_the_edge():
    # The truth is a ratio of exactly C in R, and 1 in N and G, 4 seeds each. Then "valid" is an
    # error and has probability at most 2.5 % (one end of a 95 % interval); with all three ratios
    # at C "invalid" is none of the truth's and has at most 5 % (Bonferroni; each of its three
    # intervals errs outwards with 0.05 / 6). 0.01 as above, for Welch's approximation.
    rng = np.random.default_rng(11)
    count, spread = 1000, 0.1
    valid = invalid = 0
    for _ in range(count):
        limit = {q: np.exp(rng.normal(0, spread, 4)) for q in theory.QUANTITIES}
        near = {q: np.exp(rng.normal(0, spread, 4)) for q in theory.QUANTITIES}
        edge = {q: SQRT2 * value for q, value in near.items()}
        valid += judge({**near, "weight_norm": edge["weight_norm"]}, limit).verdict == "valid"
        invalid += judge(edge, limit).verdict == "invalid"
    assert valid / count < 0.025 + 0.01 + coverage_error(0.025, count)
    assert invalid / count < 0.05 + 0.01 + coverage_error(0.05, count)
    # Not because it never says anything: the same noise, clear cases.
    assert judge(near, limit, closeness=3.0).verdict == "valid"
    assert judge({q: 9 * v for q, v in near.items()}, limit).verdict == "invalid"


@pytest.mark.parametrize("closeness", [1.0, 0.5, -2, math.nan, math.inf, "1.4", None], ids=repr)
def test_wrong_closeness(closeness):
    message = r"`closeness` must be a number > 1. Received: closeness="
    with pytest.raises(ValueError, match=message):
        judge(*three(), closeness=closeness)
    with pytest.raises(ValueError, match=message):
        sde_threshold(closeness)
