"""Tests of keras_svag/study/optimizer.py: the optimizer of a run, by name and batch size."""

import keras
import pytest

from keras_svag.study.config import validate_config
from keras_svag.study.optimizer import (
    build_optimizer,
    is_plain_sgd,
    require_plain_sgd,
    scaled_learning_rate,
)
from tests.study.helpers import study_config


def config_of(**optimizer):
    # eta = 0.2 and weight decay 5e-3 at B = 8
    return validate_config(study_config(optimizer=optimizer))


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
    "rmsprop": ({"name": "SVAGRMSprop", "rho": 0.95}, {"learning_rate": 0.4, "rho": 0.8}),
}


@pytest.mark.parametrize("name", SCALED)
def test_hyperparameters_are_scaled_to_the_batch_size(name):
    fields, expected = SCALED[name]
    config = config_of(**fields)
    rate = scaled_learning_rate(config, 32)
    assert rate == pytest.approx(expected["learning_rate"], rel=1e-12)
    optimizer = build_optimizer(config, 32, rate)
    assert type(optimizer).__name__ == fields["name"] and optimizer.ell == 1.0
    got = optimizer.get_config()
    assert {k: got[k] for k in expected} == pytest.approx(expected, rel=1e-6)  # float32 variable


def test_at_the_base_batch_size_nothing_changes():
    config = config_of(name="SVAGAdamW", beta_1=0.8)
    got = build_optimizer(config, 8, scaled_learning_rate(config, 8)).get_config()
    assert got["beta_1"] == pytest.approx(0.8, rel=1e-15)
    assert got["weight_decay"] == pytest.approx(5e-3) and got["learning_rate"] == pytest.approx(0.2)


def test_schedule_of_the_run_is_taken():
    schedule = keras.optimizers.schedules.CosineDecay(0.8, 10)
    assert build_optimizer(config_of(name="SVAG"), 32, schedule)._learning_rate is schedule


def test_unset_fields_are_left_out():
    assert config_of(name="SVAG", momentum=None)["optimizer"] == {"name": "SVAG"}


def test_plain_sgd():
    plain, momentum = config_of(name="SVAG", momentum=0.0), config_of(name="SVAG", momentum=0.5)
    assert is_plain_sgd(plain) and not is_plain_sgd(momentum)
    assert not is_plain_sgd(config_of(name="SVAGAdam"))
    require_plain_sgd(plain, "s")
    with pytest.raises(ValueError, match="`optimizer` must be SVAG without momentum .*Received"):
        require_plain_sgd(momentum, "s")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "`optimizer.name` must be given.*Received: optimizer={}"),
        ({"name": "SGD"}, "`optimizer.name` must be one of 'SVAG', .*Received: .*'SGD'"),
        (
            {"name": "SVAG", "momentum": 1.5},
            "`optimizer` must be what SVAG takes. Received: .*1.5.*; `momentum` must be",
        ),
        ({"name": "SVAG", "beta_1": 0.9}, "`optimizer.beta_1` is not a field .*Received: .*0.9"),
        (
            {"name": "SVAGAdam", "rule": "linear"},
            "`rule` for SVAGAdam must be 'auto' or .*Received: rule='linear'",
        ),
    ],
    ids=str,
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        config_of(**fields)


def test_batch_size_beyond_the_rule():
    config = config_of(name="SVAG", momentum=0.9)
    with pytest.raises(ValueError, match="`kappa` must be below 10 .*Received: kappa=16"):
        build_optimizer(config, 128, 0.1)
