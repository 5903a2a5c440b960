"""Tests of keras_svag/config/validate.py."""

import copy
import math

import ml_collections
import numpy as np
import pytest

from configs.digits import get_config
from keras_svag.config import build_study, validate_config
from tests.studies.helpers import study_config

STUDY = "sde_validity"


def changed(**fields):
    """A good config in which fields are replaced; `a__b` stands for `a.b`."""
    config = copy.deepcopy(study_config())
    for name, value in fields.items():
        *path, last = name.split("__")
        target = config
        for part in path:
            target = target[part]
        target[last] = value
    return config


def test_result_is_plain():
    config = get_config()
    config.num_seeds, config.weight_decay = 3, 0
    plain = validate_config(config.lock(), STUDY)
    assert type(plain) is dict and type(plain["model"]) is dict
    assert type(plain["weight_decay"]) is float
    assert plain["sde_validity"]["ells"] == [1.0, 2.0, 4.0, 8.0]
    assert plain == validate_config(plain, STUDY)


def test_grid_is_sorted_and_without_repeats():
    config = changed(sde_validity__ells=(4, 1, np.float64(2.0), 4.0), sde_validity__batch_sizes=256)
    study, _ = build_study(config, "sde_validity")
    written = study.describe()["sde_validity"]
    assert written["batch_sizes"] == [256] and written["ells"] == [1.0, 2.0, 4.0]


def test_input_is_left_alone():
    config = changed(sde_validity__ells=(4, 1))
    validate_config(config, STUDY)
    assert config == changed(sde_validity__ells=(4, 1))


# The name of the field and what was received, in this order.
BAD = {
    "ell below 1/2": ({"sde_validity__ells": (1.0, 0.49)}, "ell=0.49"),
    "ell nan": ({"sde_validity__ells": (1.0, math.nan)}, "ell=nan"),
    "ell infinite": ({"sde_validity__ells": (1.0, math.inf)}, "ell=inf"),
    "ell string": ({"sde_validity__ells": (1.0, "2")}, "ell='2'"),
    "ells string": ({"sde_validity__ells": "12"}, "ell='12'"),
    "ells without SGD": ({"sde_validity__ells": (2.0, 4.0)}, r"ells=\[2.0, 4.0\]"),
    "ells empty": ({"sde_validity__ells": ()}, "sde_validity.ells.*empty"),
    "largest ell": ({"sde_validity__max_ell": 0.5}, "sde_validity.max_ell.*0.5"),
    "criterion": ({"sde_validity__criteria": {"train_loss": 2}}, "criteria={'train_loss': 2}"),
    "criteria": ({"sde_validity__criteria": "train_loss"}, "criteria='train_loss'"),
    "no batch size": ({"sde_validity__batch_sizes": ()}, "sde_validity.batch_sizes.*empty"),
    "batch size": ({"sde_validity__batch_sizes": (8, 0)}, "batch_size=0"),
    "batch size string": ({"sde_validity__batch_sizes": "8"}, "batch_size='8'"),
    "sampling": ({"sampling": "shuffled"}, "'with_replacement'.*sampling='shuffled'"),
    "two streams": ({"sampling": "two_shuffled_streams"}, "sampling='two_shuffled_streams'"),
    "data set": ({"dataset__name": "digit"}, "dataset.name.*'digits'.*'digit'"),
    "model": ({"model__name": "cnn"}, "model.name.*'mlp'.*'cnn'"),
    "seed": ({"seed": -1}, "seed=-1"),
    "no seeds": ({"num_seeds": 0}, "num_seeds=0"),
    "more seeds than allowed": ({"num_seeds": 8, "max_num_seeds": 4}, "8.*max_num_seeds=4"),
    "workers": ({"num_workers": -1}, "num_workers=-1"),
    "records": ({"num_records": 0}, "num_records=0"),
    "checkpoints": ({"num_checkpoints": 2.0}, "num_checkpoints=2.0"),
    "epochs": ({"epochs": 0.0}, "epochs=0.0"),
    "learning rate": ({"learning_rate": math.nan}, "learning_rate=nan"),
    "weight decay": ({"weight_decay": -1e-3}, "weight_decay=-0.001"),
    "schedule": ({"schedule": {}}, "schedule.name.*schedule={}"),
    "evaluation": ({"evaluation_size": -1}, "evaluation_size=-1"),
    "window of one": ({"equilibrium": (0.4,)}, "equilibrium.*0.4"),
    "window order": ({"equilibrium": (0.8, 0.4)}, "equilibrium.*0.8, 0.4"),
    "empty window": ({"equilibrium": (0.4, 0.4)}, "equilibrium.*0.4, 0.4"),
    "closeness": ({"closeness": 1.0}, "closeness=1.0"),
    "unknown field": ({"num_seed": 4}, "num_seeds.*num_seed=4"),
    "unknown model field": ({"model__widht": 2}, "width.*model.widht=2"),
    "field given by the study": ({"model__seed": 2}, "model.seed=2"),
    "unknown data set field": ({"dataset__seed": 2}, "split_seed.*dataset.seed=2"),
    "unknown grid field": ({"sde_validity__ell": (1,)}, "ells.*sde_validity.ell"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_fields(case):
    fields, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        build_study(changed(**fields), STUDY)


@pytest.mark.parametrize("name", ["num_seeds", "dataset", "sde_validity"])
def test_missing_field(name):
    config = study_config()
    del config[name]
    with pytest.raises(ValueError, match=f"`{name}` must be given"):
        validate_config(config, STUDY)


def test_missing_name():
    config = study_config(model={"depth": 2})
    with pytest.raises(ValueError, match="model.name"):
        validate_config(config, STUDY)


def test_limits_are_allowed():
    # The smallest ell, every ceiling at its floor, no decay of either kind.
    build_study(
        changed(
            sde_validity__ells=(0.5, 1),
            sde_validity__batch_sizes=1,
            weight_decay=0,
            schedule__decay_at=(),
            num_seeds=1,
            max_num_seeds=1,
            equilibrium=(0, 1),
            num_workers=0,
        ),
        STUDY,
    )


def test_config_dict_of_any_kind():
    frozen = ml_collections.FrozenConfigDict(study_config())
    assert validate_config(frozen, STUDY) == validate_config(study_config(), STUDY)
