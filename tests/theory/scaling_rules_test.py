"""Tests of keras_svag/theory/scaling_rules.py, by the units of what is scaled.

At kappa times the batch a step takes kappa times the time, and the gradient's noise has 1/kappa of
the variance. Powers of kappa follow; chains in tests/optimizers/keras_rules_test.py show the same.
"""

import math

import pytest

from keras_svag.theory import scaling_rules
from keras_svag.theory.scaling_rules import (
    ScalingRule,
    ftrl_rule,
    largest_kappa,
    scale_average_rate,
    scale_decay_rate,
    scale_factor,
)

RULES = {name: rule for name, rule in vars(scaling_rules).items() if name.endswith("_RULE")}
FTRL = {p: ftrl_rule(p) for p in (-0.5, -0.3)}
TIME, ROOT_NOISE = 1.0, -0.5  # powers of kappa
# Gradients are averaged, in units of their noise; or their squares are summed over the steps.
AVERAGED, SUMMED = 2 * ROOT_NOISE, 2 * ROOT_NOISE - TIME


def test_every_rule_is_looked_at():
    assert len(RULES) == 11


@pytest.mark.parametrize("name", RULES)
def test_weight_decay_per_unit_of_time_is_kept(name):
    # A step takes eta lambda off the weights.
    powers = RULES[name].powers
    assert powers["learning_rate"] + powers["weight_decay"] == TIME
    if name == "MUON_RULE":
        assert powers["adam_weight_decay"] == powers["weight_decay"]


@pytest.mark.parametrize(
    ("name", "power"),
    [
        ("LINEAR_RULE", TIME),  # eta g, of which the mean counts
        ("HEAVY_BALL_RULE", 2 * TIME),  # of the velocity, which a step of its own moves
        ("ADAM_RULE", TIME + ROOT_NOISE),  # eta g / root
        ("RMSPROP_RULE", TIME + ROOT_NOISE),
        ("RMSPROP_MOMENTUM_RULE", 2 * TIME + ROOT_NOISE),
        ("SCHEDULE_FREE_RULE", TIME + ROOT_NOISE),
        ("ADAFACTOR_RULE", TIME + ROOT_NOISE),
        ("LION_RULE", TIME),  # eta times what has no units
        ("LAMB_RULE", TIME),
        ("MUON_RULE", TIME),
        ("ADAGRAD_RULE", TIME + SUMMED / 2),  # eta g / root of the sum
    ],
)
def test_learning_rate_keeps_the_mean_per_unit_of_time(name, power):
    assert RULES[name].powers["learning_rate"] == power
    if name == "MUON_RULE":  # the weights that follow Adam
        assert power + RULES[name].powers["adam_lr_ratio"] == TIME + ROOT_NOISE


@pytest.mark.parametrize(
    ("rule", "name", "power"),
    [
        ("ADAM_RULE", "epsilon", AVERAGED / 2),
        ("SCHEDULE_FREE_RULE", "epsilon", AVERAGED / 2),
        ("LAMB_RULE", "epsilon", AVERAGED / 2),
        ("MUON_RULE", "epsilon", AVERAGED / 2),
        ("RMSPROP_RULE", "epsilon", AVERAGED),  # inside the root
        ("RMSPROP_MOMENTUM_RULE", "epsilon", AVERAGED),
        ("ADAFACTOR_RULE", "epsilon_1", AVERAGED),
        ("ADAGRAD_RULE", "epsilon", SUMMED),
        ("ADAGRAD_RULE", "initial_accumulator_value", SUMMED),
        ("SCHEDULE_FREE_RULE", "warmup_steps", -TIME),
    ],
)
def test_what_is_added_has_the_units_of_what_it_is_added_to(rule, name, power):
    assert RULES[rule].powers[name] == power


@pytest.mark.parametrize("power", FTRL)
def test_ftrl_has_units(power):
    # w = (l1 sign(z) - z) / ((beta + n^-power) / eta + l2) with z a sum of gradients, n of squares.
    powers = ftrl_rule(-power).powers
    denominator = -TIME  # z / w
    assert powers["initial_accumulator_value"] == SUMMED
    assert powers["beta"] == pytest.approx(-power * SUMMED)
    assert -power * SUMMED - powers["learning_rate"] == pytest.approx(denominator)
    assert powers["l1_regularization_strength"] == -TIME
    assert powers["l2_regularization_strength"] == denominator
    # Of the gradient itself.
    assert powers["l2_shrinkage_regularization_strength"] == 0.0
    assert powers["learning_rate"] + powers["weight_decay"] == 0.0


def test_averages_forget_as_much_per_unit_of_time():
    rates = {name: rule.decay_powers for name, rule in RULES.items()}
    assert rates["LION_RULE"] == {"beta_1": 0.5, "beta_2": 1.0}
    for name in ("LINEAR_RULE", "ADAFACTOR_RULE", "ADAGRAD_RULE"):
        assert rates[name] == {}
    assert rates["HEAVY_BALL_RULE"] == {"momentum": 1.0}
    assert rates["ADAM_RULE"] == rates["LAMB_RULE"] == {"beta_1": 1.0, "beta_2": 1.0}
    assert rates["RMSPROP_RULE"] == {"rho": 1.0}
    assert rates["RMSPROP_MOMENTUM_RULE"] == {"rho": 1.0, "momentum": 1.0}
    assert rates["SCHEDULE_FREE_RULE"] == {"beta_2": 1.0}
    assert rates["MUON_RULE"] == dict.fromkeys(("momentum", "adam_beta_1", "adam_beta_2"), 1.0)


def test_rules_that_do_not_keep_the_sde_are_told_from_those_that_do():
    names = {rule.name for rule in (*RULES.values(), *FTRL.values())}
    assert names == {"linear", "heavy_ball", "square_root", "normalized", "accumulated"}


@pytest.mark.parametrize("missing", [["learning_rate"], ["weight_decay"], []], ids=str)
def test_a_rule_says_what_becomes_of_learning_rate_and_weight_decay(missing):
    powers = dict.fromkeys(missing, 1.0)
    absent = sorted({"learning_rate", "weight_decay"} - set(missing))
    with pytest.raises(ValueError, match=f"must have {' and '.join(absent)}. Received"):
        ScalingRule("mine", powers)
    assert ScalingRule("mine", {"learning_rate": 1.0, "weight_decay": 0.0}).decay_powers == {}


@pytest.mark.parametrize("kappa", [0.25, 1, 4])
def test_factors_and_rates(kappa):
    assert scale_factor(kappa, 1.5) == kappa**1.5
    assert scale_decay_rate(0.9, kappa) == pytest.approx(1 - 0.1 * kappa)
    # kappa steps at the rate m forget as much as one at the rate m^kappa.
    assert scale_average_rate(0.9, kappa) == pytest.approx(math.exp(kappa * math.log(0.9)))


@pytest.mark.parametrize(("kappa", "power"), [(1e200, 2.0), (1e-200, 2.0), (1e200, -2.0)])
def test_a_factor_that_no_float_holds_is_refused(kappa, power):
    with pytest.raises(ValueError, match="`kappa` must give a positive finite factor.*Received"):
        scale_factor(kappa, power)


def test_largest_kappa_leaves_every_rate_at_zero_or_above():
    rates = [0.9, 0.5, 0.99]
    limit = largest_kappa(rates)
    assert min(scale_decay_rate(rate, limit) for rate in rates) == pytest.approx(0.0)
    assert largest_kappa([]) == math.inf
    assert largest_kappa([1.0, 0.75]) == 4.0  # an average that never forgets has no limit
    assert largest_kappa([0.0, 0.75]) == 1.0
