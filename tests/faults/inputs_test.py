"""What is wrong with data or lengths is told in a sentence, before anything is written."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_svag import check_sde
from keras_svag.datasets import DATASETS, digits
from keras_svag.study import run_linear_scaling, run_sde_validity
from keras_svag.study.config import validate_config
from keras_svag.study.grid import check_buildable, describe_cost, make_run
from tests.study.helpers import study_config


def with_nan(data):
    x = data.train_x.copy()
    x[[5, 9], 3] = np.nan
    return {"train_x": x}


# What a data set's function gives, and what is said of it.
BAD_DATA = {
    "NaN images": (with_nan, "`train_x` must hold finite numbers.*2 examples.*first at 5. Leave"),
    "labels out of range": (
        lambda data: {"train_y": data.train_y + 1},
        "`train_y` must hold labels from 0 to 9. Received: labels from 1 to 10",
    ),
    "empty": (
        lambda data: {"train_x": data.train_x[:0], "train_y": data.train_y[:0]},
        "`train_x` must have the shape .* with at least one example. Received",
    ),
}


@pytest.mark.parametrize("study", [run_sde_validity, run_linear_scaling])
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case, study, tmp_path, monkeypatch):
    change, message = BAD_DATA[case]

    def load(split_seed):
        data = digits(split_seed)
        return dataclasses.replace(data, **change(data))

    monkeypatch.setitem(DATASETS, "digits", load)
    with pytest.raises(ValueError, match=message):
        study(study_config(), tmp_path / "study", show_progress=False)
    assert not (tmp_path / "study").exists()


BAD_CONFIGS = {
    "batch larger than the data set": (
        {
            "sampling": "without_replacement",
            "sde_validity": {"batch_sizes": [1438], "ells": [1.0, 2.0, 4.0]},
        },
        "`batch_size` is too large for 1437 examples with mode='without_replacement'.*1438. Use",
    ),
    "ell beyond what can be counted": (
        {"sde_validity": {"batch_sizes": [8], "ells": [1.0, 1e6]}, "epochs": 30.0},
        "`epochs` and `ell` must be so small .* run b8_ell1000000_seed0 with 5,389,000,000 steps",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configs(case, tmp_path):
    changes, message = BAD_CONFIGS[case]
    with pytest.raises(ValueError, match=message):
        run_sde_validity(study_config(**changes), tmp_path / "study", show_progress=False)
    assert not (tmp_path / "study").exists()


def test_batches_with_replacement_may_be_larger_than_the_data():
    # Each example is drawn by itself; the theory knows no n.
    config = validate_config(
        study_config(sde_validity={"batch_sizes": [2000], "ells": [1.0, 2.0, 4.0]})
    )
    check_buildable(config, digits(), [make_run(config, 1437, 2000)])


def test_a_million_for_ell_is_only_long():
    config = validate_config(study_config(sde_validity={"batch_sizes": [128], "ells": [1, 1e6]}))
    run = make_run(config, 1437, 128, 1e6)
    check_buildable(config, digits(), [run])
    assert describe_cost([run], 1437).startswith("To do: 1 run, 22,000,000 steps, 44,000,000 grad")
    assert run.record_points(10) == make_run(config, 1437, 128).record_points(10)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((8, 2), np.nan), np.ones(8), "`train_data` must hold finite numbers.*Received"),
        (np.ones((0, 2)), np.ones(0), "`train_data` must be two arrays with as many examples"),
        (np.ones((8, 2)), np.full(8, np.inf), "`train_data` must hold finite numbers.*Received"),
    ],
    ids=["NaN images", "empty", "infinite targets"],
)
def test_bad_arrays_of_a_user(x, y, message):
    with pytest.raises(ValueError, match=message):
        check_sde(lambda seed: None, keras.optimizers.SGD(0.01), "mse", (x, y))
