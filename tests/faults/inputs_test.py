"""Invalid data and lengths are rejected in one sentence, before anything is written."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_svag import check_sde
from keras_svag.datasets import DATASETS, digits
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import describe_cost
from keras_svag.studies.base.checks import check_runs
from tests.studies.helpers import build, run_study, study_config


def with_nan(data):
    x = data.train_x.copy()
    x[[5, 9], 3] = np.nan
    return {"train_x": x}


# Changes of the data, and part of the message.
BAD_DATA = {
    "NaN images": (with_nan, "train_x.*2 examples.*index 5"),
    "labels out of range": (
        lambda data: {"train_y": data.train_y + 1},
        "train_y.*0 to 9.*1 to 10",
    ),
    "empty": (
        lambda data: {"train_x": data.train_x[:0], "train_y": data.train_y[:0]},
        "`train_x` must have shape",
    ),
}


@pytest.mark.parametrize("study", ["sde_validity", "linear_scaling"])
@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case, study, tmp_path, monkeypatch):
    change, message = BAD_DATA[case]

    def load(split_seed):
        data = digits(split_seed)
        return dataclasses.replace(data, **change(data))

    monkeypatch.setitem(DATASETS, "digits", load)
    with pytest.raises(ValueError, match=message):
        run_study(study_config(), study, tmp_path / "study")
    assert not (tmp_path / "study").exists()


BAD_CONFIGS = {
    "batch larger than the data set": (
        {
            "sampling": "without_replacement",
            "sde_validity": {"batch_sizes": [1438], "ells": [1.0, 2.0, 4.0]},
        },
        "1437 examples.*batch_size=1438",
    ),
    "ell beyond what can be counted": (
        {"sde_validity": {"batch_sizes": [8], "ells": [1.0, 1e6]}, "epochs": 30.0},
        "b8_ell1000000_seed0 with 5,389,000,000 steps",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configs(case, tmp_path):
    changes, message = BAD_CONFIGS[case]
    with pytest.raises(ValueError, match=message):
        run_study(study_config(**changes), "sde_validity", tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_batches_with_replacement_may_be_larger_than_the_data():
    # Each example is drawn by itself; the theory knows no n.
    study = build(study_config(sde_validity={"batch_sizes": [2000], "ells": [1.0, 2.0, 4.0]}))
    check_runs(study.recipe, [study.make_spec(2000)], Recording(), (0.0, 1.0))


def test_a_million_for_ell_is_only_long():
    study = build(study_config(sde_validity={"batch_sizes": [128], "ells": [1, 1e6]}))
    run = study.make_spec(128, 1e6)
    study.check()
    assert "1 run, 22,000,000 steps, 5,632,000,000 examples" in describe_cost([run], 1437)
    assert run.record_points(10) == study.make_spec(128).record_points(10)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.full((8, 2), np.nan), np.ones(8), "train_data.*finite"),
        (np.ones((0, 2)), np.ones(0), "train_data.*at least one"),
        (np.ones((8, 2)), np.full(8, np.inf), "train_data.*finite"),
    ],
    ids=["NaN images", "empty", "infinite targets"],
)
def test_bad_arrays_of_a_user(x, y, message):
    with pytest.raises(ValueError, match=message):
        check_sde(lambda seed: None, keras.optimizers.SGD(0.01), "mse", (x, y))
