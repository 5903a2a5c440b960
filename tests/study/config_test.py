"""Tests of keras_svag/study/config.py."""

import copy
import math

import ml_collections
import numpy as np
import pytest

from configs.digits import get_config
from keras_svag.study.config import (
    GROWABLE,
    differences,
    effective_steps,
    validate_config,
)
from keras_svag.study.optimizer import scaled_learning_rate
from tests.study.helpers import study_config


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
    plain = validate_config(config.lock())
    assert type(plain) is dict and type(plain["model"]) is dict
    assert type(plain["weight_decay"]) is float
    assert plain["sde_validity"]["ells"] == [1.0, 2.0, 4.0, 8.0]
    assert plain == validate_config(plain)


def test_grid_is_sorted_and_without_repeats():
    plain = validate_config(
        changed(sde_validity__ells=(4, 1, np.float64(2.0), 4.0), sde_validity__batch_sizes=256)
    )
    assert plain["sde_validity"] == {"batch_sizes": [256], "ells": [1.0, 2.0, 4.0]}


def test_input_is_left_alone():
    config = changed(sde_validity__ells=(4, 1))
    validate_config(config)
    assert config == changed(sde_validity__ells=(4, 1))


BAD = {
    "ell below 1/2": ({"sde_validity__ells": (1.0, 0.49)}, "`ell` .*>= 0.5 .*Received: ell=0.49"),
    "ell nan": ({"sde_validity__ells": (1.0, math.nan)}, "`ell` .*Received: ell=nan"),
    "ell infinite": ({"sde_validity__ells": (1.0, math.inf)}, "`ell` .*Received: ell=inf"),
    "ell string": ({"sde_validity__ells": (1.0, "2")}, "`ell` must be .*Received: ell='2'"),
    "ells string": ({"sde_validity__ells": "12"}, "`ell` must be .*Received: ell='12'"),
    "ells without SGD": (
        {"sde_validity__ells": (2.0, 4.0)},
        r"`sde_validity.ells` must contain 1, which is SGD itself. Received: ells=\[2.0, 4.0\]",
    ),
    "ells empty": ({"sde_validity__ells": ()}, "`sde_validity.ells` must not be empty"),
    "no batch size": ({"sde_validity__batch_sizes": ()}, "`sde_validity.batch_sizes` must not"),
    "batch size": (
        {"sde_validity__batch_sizes": (8, 0)},
        "`batch_size` must be an integer >= 1. Received: batch_size=0",
    ),
    "batch size string": ({"sde_validity__batch_sizes": "8"}, "Received: batch_size='8'"),
    "sampling": ({"sampling": "shuffled"}, "`sampling` must be one of 'with_replacement', .*Rec"),
    "two streams": ({"sampling": "two_shuffled_streams"}, "`sampling` must be one of .*Received"),
    "data set": ({"dataset__name": "digit"}, "`dataset.name` must be .*'digits'.*Rec.*'digit'"),
    "model": ({"model__name": "cnn"}, "`model.name` must be .*'mlp'.*Received: .*='cnn'"),
    "seed": ({"seed": -1}, "`seed` must be an integer >= 0. Received: seed=-1"),
    "no seeds": ({"num_seeds": 0}, "`num_seeds` must be an integer >= 1. Received: num_seeds=0"),
    "more seeds than allowed": (
        {"num_seeds": 8, "max_num_seeds": 4},
        "`max_num_seeds` must be an integer >= 8. Received: max_num_seeds=4",
    ),
    "workers": ({"num_workers": -1}, "`num_workers` must be an integer >= 0. Rec"),
    "records": ({"num_records": 0}, "`num_records` must be an integer >= 1. Received"),
    "checkpoints": ({"num_checkpoints": 2.0}, "`num_checkpoints` must be .*Received: .*=2.0"),
    "epochs": ({"epochs": 0.0}, "`epochs` must be a number > 0. Received: epochs=0.0"),
    "learning rate": ({"learning_rate": math.nan}, "`learning_rate` must be .*Received: .*=nan"),
    "weight decay": ({"weight_decay": -1e-3}, "`weight_decay` must be >= 0. Received: .*-0.001"),
    "schedule": ({"schedule": {}}, "`schedule.name` must be given.*Received: schedule={}"),
    "evaluation": ({"evaluation_size": -1}, "`evaluation_size` must be an integer >= 0. Rec"),
    "window of one": ({"equilibrium": (0.4,)}, "`equilibrium` must be two fractions.*Received"),
    "window order": ({"equilibrium": (0.8, 0.4)}, "`equilibrium` must be increasing .*Received"),
    "empty window": ({"equilibrium": (0.4, 0.4)}, "`equilibrium` must be increasing .*Received"),
    "closeness": ({"closeness": 1.0}, "`closeness` must be a number > 1. Received: closeness=1.0"),
    "unknown field": ({"num_seed": 4}, "`num_seed` is not a field .*num_seeds.*Received: .*=4"),
    "unknown model field": (
        {"model__widht": 2},
        "`model.widht` is not a field of the config; there are name, depth, width.*Received: .*=2",
    ),
    "field given by the study": ({"model__seed": 2}, "`model.seed` is not a field"),
    "unknown data set field": ({"dataset__seed": 2}, "`dataset.seed` .* are name, split_seed"),
    "unknown grid field": ({"sde_validity__ell": (1,)}, "`sde_validity.ell` .* batch_sizes, ells"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_fields(case):
    fields, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        validate_config(changed(**fields))


@pytest.mark.parametrize("name", ["num_seeds", "dataset", "sde_validity"])
def test_missing_field(name):
    config = study_config()
    del config[name]
    with pytest.raises(ValueError, match=f"`{name}` must be given.*configs/digits.py"):
        validate_config(config)


def test_missing_name():
    config = study_config(model={"depth": 2})
    with pytest.raises(ValueError, match="`model.name` must be given"):
        validate_config(config)


def test_limits_are_allowed():
    # The smallest ell, every ceiling at its floor, no decay of either kind.
    validate_config(
        changed(
            sde_validity__ells=(0.5, 1),
            sde_validity__batch_sizes=1,
            weight_decay=0,
            schedule__decay_at=(),
            num_seeds=1,
            max_num_seeds=1,
            equilibrium=(0, 1),
            num_workers=0,
        )
    )


@pytest.mark.parametrize(
    ("epochs", "n", "batch_size", "steps"),
    [(30.0, 1437, 8, 5389), (30.0, 1437, 256, 168), (2.0, 1437, 128, 22), (0.1, 1437, 512, 1)],
)
def test_effective_steps(epochs, n, batch_size, steps):
    # 30 * 1437 / 8 = 5388.75, 30 * 1437 / 256 = 168.4; never fewer than one.
    assert effective_steps({"epochs": epochs}, n, batch_size) == steps


def test_learning_rate_over_batch_size_is_constant():
    config = validate_config(study_config())
    for batch_size in (1, 8, 48, 256):
        assert scaled_learning_rate(config, batch_size) / batch_size == pytest.approx(0.025)


def test_differences_name_what_changed():
    old, new = study_config(), changed(learning_rate=0.1, model__depth=3, num_records=11)
    assert differences(old, new) == [
        "learning_rate: 0.2 -> 0.1",
        "model.depth: 2 -> 3",
        "num_records: 10 -> 11",
    ]
    assert differences(old, old) == []
    assert differences({"a": 1}, {}) == ["a: 1 -> None"]
    assert differences({}, {"a": {"b": 1}}) == ["a: None -> {'b': 1}"]


def test_what_may_grow_is_ignored_at_the_top_only():
    new = {name: "other" for name in GROWABLE}
    assert differences(study_config(), {**study_config(), **new}) == []
    assert differences({"model": {"num_seeds": 1}}, {"model": {"num_seeds": 2}}) == [
        "model.num_seeds: 1 -> 2"
    ]


def test_config_dict_of_any_kind():
    frozen = ml_collections.FrozenConfigDict(study_config())
    assert validate_config(frozen) == validate_config(study_config())
