"""Tests of configs/digits.py."""

import math

import pytest

from configs.digits import get_config
from keras_svag.config import build_study, validate_config


def test_default_is_the_study_that_the_documents_describe():
    config = validate_config(get_config(), "sde_validity")
    assert config["sde_validity"] == {
        "batch_sizes": [8, 256],
        "ells": [1.0, 2.0, 4.0, 8.0],
        "max_ell": None,
        "criteria": None,
        "noise": "covariance",
    }
    study = build_study(get_config(), "sde_validity")[0]
    assert study.max_ell == 16.0
    assert config["num_seeds"] == 4 and config["max_num_seeds"] >= 4
    assert config["sampling"] == "with_replacement"
    assert config["weight_decay"] == 5e-3 and config["closeness"] == math.sqrt(2)
    assert config["schedule"] == {"name": "step", "decay_at": [0.8], "decay_factor": 0.1}
    assert config["optimizer"] == {"name": "SVAG"}
    assert config["equilibrium"] == [0.4, 0.8]
    assert config["dataset"] == {"name": "digits", "split_seed": 0}
    assert config["model"] == {
        "name": "mlp",
        "depth": 1,
        "width": 1,
        "norm": "group",
        "affine": False,
        "train_last_layer": False,
        "epsilon": 1e-5,
    }
    # 30 n / B effective steps, learning rate in proportion to B.
    facts = study.facts
    assert [facts.steps_at(b) for b in (8, 256)] == [5389, 168]
    rates = [facts.learning_rate_at(b) for b in (8, 256)]
    assert rates == [pytest.approx(0.2), pytest.approx(6.4)]


def test_default_sweep_of_the_linear_scaling_rule():
    study, _ = build_study(get_config(), "linear_scaling")
    config = study.describe()
    assert config["base_batch_size"] == 8
    assert config["linear_scaling"] == {
        "batch_sizes": [4, 8, 16, 32, 64, 128, 256, 512],
        "criteria": None,
        "criterion": "closeness",
        "tolerance": 0.02,
        "test_error_ratio": 1.2,
        "phase": "auto",
    }


def test_quick_differs_only_in_length():
    default, quick = get_config().to_dict(), get_config("quick").to_dict()
    shorter = {
        "branched_batch_size",
        "num_seeds",
        "max_num_seeds",
        "num_workers",
        "epochs",
        "linear_scaling",
        "num_records",
        "num_checkpoints",
        "noisy_gradient_descent",
        "sde_validity",
        "train",
    }
    assert {name for name in default if default[name] != quick[name]} == shorter
    assert default.keys() == quick.keys()
    validate_config(quick, "sde_validity")
    validate_config(quick, "linear_scaling")


def test_configs_are_separate_objects():
    first = get_config()
    first.model.depth = 7
    assert get_config().model.depth == 1


def test_unknown_variant():
    with pytest.raises(ValueError, match="'quick'.*'quik'"):
        get_config("quik")
