"""Tests of keras_svag/theory/conditions.py: bounds found again by search."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_svag.theory import (
    Condition,
    Interval,
    lsr_max_kappa,
    ratio_of_means,
    sde_condition,
    sde_threshold,
)
from keras_svag.theory.assumptions import paper_assumptions
from tests.theory.helpers import coverage_error, interval_of

SQRT2 = math.sqrt(2)
FORMS = ("tight", "paper")


# The necessary condition.


@pytest.mark.parametrize("closeness", [1.1, SQRT2, 2.0])
def test_threshold_is_where_equilibria_can_be_close(closeness):
    # Equilibrium, up to terms in eta lambda: SGD has 2 lambda R = eta (G + N), its SDE
    # 2 lambda R' = eta N'. Given N' = 1 and G', the smallest R / R' = G + N over all G and N
    # within a factor C must not exceed C. Found by trying, not by algebra.
    factors = np.geomspace(1 / closeness, closeness, 101)
    threshold = sde_threshold(closeness)
    for ratio, possible in [(threshold * 1.001, True), (threshold * 0.999, False)]:
        signal = 1 / ratio
        smallest = (factors[:, None] * signal + factors[None, :]).min()
        assert (smallest <= closeness) == possible
    # And given the N and G = N / ratio of SGD, over N' (G' is free).
    for ratio, possible in [(threshold * 1.001, True), (threshold * 0.999, False)]:
        r_over_r_limit = (1 / ratio + 1) / factors
        assert (r_over_r_limit.min() <= closeness) == possible


def test_threshold_at_the_default():
    assert sde_threshold() == pytest.approx(1.0)


# The SDE condition.


@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.1, 3.0])
def test_condition_without_spread(ratio):
    condition = sde_condition([ratio] * 3, [1.0] * 3)
    assert condition.threshold == pytest.approx(1.0)
    assert condition.holds is (ratio > 1)


def test_condition_at_the_threshold_itself():
    # N/G must be at least 1/3 at C = 2.
    assert sde_condition([1.0, 1.0], [3.0, 3.0], closeness=2.0).holds is True


def test_conditions_take_a_confidence():
    noise, signal = [1.9, 2.0, 2.3], [1.0, 1.1, 0.9]
    wide, narrow = (ratio_of_means(noise, signal, level) for level in (0.99, 0.5))
    assert sde_condition(noise, signal, confidence=0.99).noise_to_signal == wide != narrow
    bound = lsr_max_kappa(noise, signal, confidence=0.5)
    assert interval_of(bound) == pytest.approx([2 + ratio for ratio in interval_of(narrow)])


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("invariant", [True, False, None])
def test_assumptions_of_the_paper(plain, decay, invariant):
    assert list(paper_assumptions(plain, decay, invariant).values()) == [plain, decay, invariant]


def test_condition_is_decided_by_fiellers_interval():
    # H0 "N/G = threshold" by a t test of N - threshold G, which knows nothing of ratios.
    rng = np.random.default_rng(0)
    seen = set()
    for center in np.linspace(0.5, 2.0, 40):
        noise, signal = rng.normal(center, 0.2, 4), rng.normal(1.0, 0.1, 4)
        threshold = sde_threshold(SQRT2)
        test = stats.ttest_1samp(noise - threshold * signal, 0)
        expected = None if test.pvalue > 0.05 else bool(test.statistic > 0)
        condition = sde_condition(noise, signal)
        assert condition.holds is expected
        assert condition.noise_to_signal == ratio_of_means(noise, signal)
        seen.add(condition.holds)
    assert seen == {True, False, None}


def test_condition_errs_as_often_as_it_says():
    # The truth is exactly at the threshold; 4 seeds. Each of "holds" and "does not" has 2.5 %.
    rng = np.random.default_rng(1)
    count = 2000
    held = [sde_condition(rng.normal(1, 0.2, 4), rng.normal(1, 0.2, 4)).holds for _ in range(count)]
    for answer in (True, False):
        assert abs(held.count(answer) / count - 0.025) < coverage_error(0.025, count)


def test_condition_where_the_signal_may_be_zero():
    # No upper end for N/G: it may hold, it may be open, but it is never refused.
    unclear = sde_condition([2.0, 2.1, 1.9, 2.05], [0.1, -0.2, 0.4, 0.3])
    assert unclear.noise_to_signal.ci_high == math.inf
    assert unclear.holds is True
    weak = sde_condition([0.1, 0.3, 0.2, 0.15], [0.1, -0.2, 0.4, 0.3])
    assert weak.noise_to_signal.ci_high == math.inf and weak.holds is None


def test_condition_of_one_seed_and_of_none():
    one = sde_condition(2.0, 1.0)  # a number is a list of one
    assert one == Condition(Interval(2.0, -math.inf, math.inf), sde_threshold(), None)
    assert sde_condition([math.nan], [math.nan]).holds is None


def test_condition_as_json():
    text = json.dumps(sde_condition([2.0], [1.0]).to_json(), allow_nan=False)
    read = json.loads(text)
    assert read["noise_to_signal"] == {"mean": 2.0, "ci_low": None, "ci_high": None}
    assert read["threshold"] == pytest.approx(1.0) and read["holds"] is None


# The bounds on kappa, derived again by search.


def largest_kappa(ratio, c, noise_counts):
    """The largest kappa for which equilibria can be C-close, by trying.

    Base: R = G + N in units of eta / (2 lambda), with N = ratio and G = 1. Scaled:
    R' = kappa G' + M with M = kappa N' the noise at the base batch size's scale. All factors
    within [1/C, C] are tried for R', G' and M (for `noise_counts` false, M may be anything >= 0,
    as in the looser form).
    """
    factors = np.geomspace(1 / c, c, 41)
    smallest_noise = ratio * factors if noise_counts else np.zeros(1)
    best = 0.0
    for norm in factors * (1 + ratio):
        for noise in smallest_noise:
            # kappa G' + M = R' has a solution with every G' it likes.
            best = max(best, np.max((norm - noise) / factors))
    return best


@pytest.mark.parametrize("c", [1.1, SQRT2, 2.0])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 10.0])
def test_bounds_by_search(ratio, c):
    for form in FORMS:
        bound = lsr_max_kappa([ratio] * 2, [1.0] * 2, c, form)
        expected = largest_kappa(ratio, c, noise_counts=form == "tight")
        np.testing.assert_allclose(interval_of(bound), expected, rtol=1e-9)


def scaled_norm(kappa, signal, noise, eta, decay):
    """R at kappa B and kappa eta; `noise` is kappa times N there. Exact, at any eta lambda."""
    return eta * (kappa * signal + noise) / (2 * decay - kappa * eta * decay**2)


@pytest.mark.parametrize("kappa", [1.5, 4.0, 30.0])
def test_bound_holds_with_the_terms_in_the_weight_decay(kappa):
    # Pairs of equilibria at random; kappa must be within the bound for the closeness they have.
    rng = np.random.default_rng(4)
    eta, decay = 0.5, 0.04
    for _ in range(400):
        signal, noise = rng.uniform(0.1, 2.0, 2)
        other_signal, other_noise = (signal, noise) * rng.uniform(0.3, 3, 2)
        pairs = [
            (
                scaled_norm(1, signal, noise, eta, decay),
                scaled_norm(kappa, other_signal, other_noise, eta, decay),
            ),
            (signal, other_signal),
            (noise, other_noise),
        ]
        c = max(max(a / b, b / a) for a, b in pairs)
        assert kappa <= lsr_max_kappa([noise] * 2, [signal] * 2, c).mean * (1 + 1e-12)


@pytest.mark.parametrize(("decay", "reached"), [(1e-6, 0.9999), (0.04, 0.5)], ids=str)
def test_bound_is_reached_where_eta_lambda_is_small(decay, reached):
    # The worst case of the derivation: G and kappa N smaller by C, R larger by C.
    rng = np.random.default_rng(7)
    eta = 0.5
    for _ in range(100):
        signal, noise = rng.uniform(0.1, 2.0, 2)
        c = rng.uniform(1.05, 2.0)
        norm = c * scaled_norm(1, signal, noise, eta, decay)
        # (2 lambda - kappa eta lambda^2) R' = eta (kappa G + N) / C, solved for kappa.
        kappa = (2 * decay * norm - eta * noise / c) / (eta * signal / c + eta * decay**2 * norm)
        bound = lsr_max_kappa([noise] * 2, [signal] * 2, c).mean
        assert reached * bound < kappa < bound


def test_sde_condition_holds_with_the_terms_in_the_weight_decay():
    # The same for SGD and its SDE: N/G of either must reach the threshold of their own closeness.
    rng = np.random.default_rng(5)
    eta, decay = 0.5, 0.04
    for _ in range(400):
        signal, noise = rng.uniform(0.1, 2.0, 2)
        norm = eta * (signal + noise) / (2 * decay - eta * decay**2)
        sde_signal, sde_noise = signal * rng.uniform(0.5, 2), noise * rng.uniform(0.5, 2)
        sde_norm = eta * sde_noise / (2 * decay)
        pairs = [(norm, sde_norm), (signal, sde_signal), (noise, sde_noise)]
        c = max(max(a / b, b / a) for a, b in pairs)
        assert noise / signal >= sde_threshold(c) * (1 - 1e-12)
        assert sde_noise / sde_signal >= sde_threshold(c) * (1 - 1e-12)


POSITIVE = st.floats(0.01, 100.0)
SEEDS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=8)


@given(SEEDS, st.floats(1.01, 5.0))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_bounds_are_ordered_and_follow_the_interval_of_the_ratio(pairs, c):
    noise, signal = np.array(pairs).T
    ratio = ratio_of_means(noise, signal)
    tight, paper = (lsr_max_kappa(noise, signal, c, form) for form in FORMS)
    assert c**2 <= tight.ci_low <= tight.ci_high
    for low, high in zip(interval_of(tight), interval_of(paper)):
        assert low <= high * (1 + 1e-12)
    assert (tight.ci_high == math.inf) == (ratio.ci_high == math.inf)
    assert tight.mean == pytest.approx(c**2 + (c**2 - 1) * noise.mean() / signal.mean())
    assert paper.mean == pytest.approx(c**2 * (1 + noise.mean() / signal.mean()))
    # Where the SDE condition fails, tight <= C^2 + 1.
    if sde_condition(noise, signal, c).holds is False:
        assert tight.mean <= c**2 + 1


@given(SEEDS, POSITIVE)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_units_of_the_loss_do_not_matter(pairs, scale):
    noise, signal = np.array(pairs).T
    one, other = lsr_max_kappa(noise, signal), lsr_max_kappa(scale * noise, scale * signal)
    for a, b in zip(interval_of(one), interval_of(other)):
        # Fieller's ends are differences of large numbers where the interval is wide.
        assert a == pytest.approx(b, rel=1e-5) or max(a, b) > 1e4
    assert sde_condition(noise, signal).threshold == sde_condition(signal, noise).threshold


@pytest.mark.parametrize("form", FORMS)
def test_bound_covers(form):
    # N/G = 2 with 4 seeds of 20 % each. Fieller is exact for normal values.
    rng = np.random.default_rng(6)
    truth = {"tight": 2 + 2, "paper": 2 * 3}[form]
    hits, count = 0, 2000
    for _ in range(count):
        bound = lsr_max_kappa(rng.normal(2, 0.4, 4), rng.normal(1, 0.2, 4), form=form)
        hits += bound.ci_low <= truth <= bound.ci_high
    assert abs(hits / count - 0.95) < coverage_error(0.95, count)


@pytest.mark.parametrize("form", FORMS)
def test_bound_where_the_signal_may_be_zero_has_no_upper_end(form):
    bound = lsr_max_kappa([2.0, 2.1, 1.9, 2.05], [0.1, -0.2, 0.4, 0.3], form=form)
    assert bound.ci_high == math.inf
    assert 2 < bound.ci_low < bound.mean < math.inf
    negative = lsr_max_kappa([2.0, 2.1, 1.9], [-0.5, -0.6, -0.55], form=form)
    assert interval_of(negative) == pytest.approx([math.inf, 2.0, math.inf])


@pytest.mark.parametrize("form", FORMS)
def test_bound_of_one_seed(form):
    bound = lsr_max_kappa([2.0], [1.0], form=form)
    assert bound.mean == pytest.approx({"tight": 4.0, "paper": 6.0}[form])
    assert (bound.ci_low, bound.ci_high) == (pytest.approx(2.0), math.inf)


def test_conditions_refuse_bad_input():
    for function in (sde_condition, lsr_max_kappa):
        with pytest.raises(ValueError, match=r"`closeness` must be a number > 1. Received: close"):
            function([1.0], [1.0], 1.0)
        message = r"`noise` and `signal` must be lists of the same length.*shape \(2,\), signal"
        with pytest.raises(ValueError, match=message):
            function([1.0, 2.0], [1.0])
        with pytest.raises(ValueError, match="Received: noise of shape"):
            function([], [])
    with pytest.raises(ValueError, match="`form` must be one of 'tight', 'paper'. Received: form="):
        lsr_max_kappa([1.0], [1.0], form="loose")
