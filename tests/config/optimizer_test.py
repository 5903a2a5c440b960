"""The optimizer of a config: by name, and as the recipe scales it to a batch size."""

import pytest

from keras_svag.config import build_study
from tests.studies.helpers import study_config


def recipe_of(**optimizer):
    """The recipe of a config with eta = 0.2 and weight decay 5e-3 at B = 8."""
    config = study_config(optimizer=optimizer)
    return build_study(config, "sde_validity")[0].recipe


# By the table of the scaling rules at kappa = 4; see docs/theory.md.
SCALED = {
    "sgd": ({"name": "SVAG"}, {"learning_rate": 0.8, "momentum": 0.0, "weight_decay": 5e-3}),
    "heavy ball": (
        {"name": "SVAG", "momentum": 0.9},
        {"learning_rate": 0.2 * 16, "momentum": 0.6, "weight_decay": 5e-3 / 4},
    ),
    "goyal": (
        {"name": "SVAG", "momentum": 0.9, "rule": "linear"},
        {"learning_rate": 0.8, "momentum": 0.9, "weight_decay": 5e-3},
    ),
    "adam": (
        {"name": "SVAGAdam", "beta_2": 0.99, "epsilon": 1e-6},
        {"learning_rate": 0.4, "beta_1": 0.6, "beta_2": 0.96, "epsilon": 5e-7},
    ),
    "adam, linear": (
        {"name": "SVAGAdam", "beta_2": 0.99, "epsilon": 1e-6, "rule": "linear"},
        {"learning_rate": 0.8, "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-6},
    ),
    "rmsprop": ({"name": "SVAGRMSprop", "rho": 0.95}, {"learning_rate": 0.4, "rho": 0.8}),
}


@pytest.mark.parametrize("name", SCALED)
def test_hyperparameters_are_scaled_to_the_batch_size(name):
    fields, expected = SCALED[name]
    recipe = recipe_of(**fields)
    rate = recipe.facts.learning_rate_at(32)
    assert rate == pytest.approx(expected["learning_rate"], rel=1e-12)
    optimizer = recipe.optimizer_at(32)
    assert type(optimizer).__name__ == fields["name"] and optimizer.ell == 1.0
    got = optimizer.get_config()
    assert {k: got[k] for k in expected if k != "learning_rate"} == pytest.approx(
        {k: v for k, v in expected.items() if k != "learning_rate"}, rel=1e-6
    )  # float32 variables
    # At the first step, before the schedule lowers it.
    assert float(optimizer.learning_rate) == pytest.approx(rate, rel=1e-6)


def test_at_the_base_batch_size_nothing_changes():
    optimizer = recipe_of(name="SVAGAdamW", beta_1=0.8).optimizer_at(8)
    got = optimizer.get_config()
    assert got["beta_1"] == pytest.approx(0.8, rel=1e-15)
    assert got["weight_decay"] == pytest.approx(5e-3)
    assert float(optimizer.learning_rate) == pytest.approx(0.2)


def test_unset_fields_are_left_out():
    study, _ = build_study(
        study_config(optimizer={"name": "SVAG", "momentum": None}), "sde_validity"
    )
    assert study.describe()["optimizer"] == {"name": "SVAG"}


def test_plain_sgd():
    assert recipe_of(name="SVAG", momentum=0.0).facts.is_plain_sgd
    assert not recipe_of(name="SVAG", momentum=0.5).facts.is_plain_sgd
    assert not recipe_of(name="SVAGAdam").facts.is_plain_sgd


@pytest.mark.parametrize("optimizer", [{"name": "SVAG", "momentum": 0.5}, {"name": "SVAGAdam"}])
def test_gaussian_noise_is_that_of_plain_sgd(optimizer):
    with pytest.raises(ValueError, match="SGD without momentum.*(momentum|Adam)"):
        build_study(study_config(optimizer=optimizer), "noisy_gradient_descent")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "optimizer.name.*optimizer={}"),
        ({"name": "SGD"}, "optimizer.name.*'SVAG'.*'SGD'"),
        (
            {"name": "SVAG", "momentum": 1.5},
            "momentum.*1.5",
        ),
        ({"name": "SVAG", "beta_1": 0.9}, "optimizer.beta_1=0.9"),
        (
            {"name": "SVAG", "exclude_from_weight_decay": ["bias", 1]},
            r"optimizer.exclude_from_weight_decay.*\['bias', 1\]",
        ),
        ({"name": "SVAG", "exclude_from_weight_decay": "*"}, "optimizer.*exclude.*'\\*'"),
        (
            {"name": "SVAGAdam", "rule": "heavy_ball"},
            "SVAGAdam.*'square_root', 'linear'.*rule='heavy_ball'",
        ),
    ],
    ids=str,
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(**fields)


def test_batch_size_beyond_the_rule():
    recipe = recipe_of(name="SVAG", momentum=0.9)
    with pytest.raises(ValueError, match="kappa.*below 10.*kappa=16"):
        recipe.optimizer_at(128)
