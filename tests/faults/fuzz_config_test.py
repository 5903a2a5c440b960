"""Fuzz of configs: a changed field is taken, or refused by a `ValueError` of ours."""

import copy
import json
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import digits, weak_convergence
from keras_svag._json import to_json
from keras_svag.study import linear_scaling, noisy_gradient_descent, sde_validity, training
from keras_svag.study import weak_convergence as weak_study
from keras_svag.study.config import STUDIES, differences, validate_config
from keras_svag.study.grid import check_records
from tests.faults.fuzz_functions_test import GARBAGE, is_ours

NUM_TRAIN = 1437
# More is work that was asked for, not a mistake.
MANY = 200


def paths_of(config, prefix=()):
    """The path of each field, those of whole parts among them."""
    for name, value in config.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from paths_of(value, (*prefix, name))


CONFIGS = {
    study: (weak_convergence if study == "weak_convergence" else digits)
    .get_config("quick")
    .to_dict()
    for study in STUDIES
}
# What fits somewhere, so that not everything is refused at the first look.
PLAUSIBLE = st.one_of(
    st.integers(0, 20),
    st.floats(0, 2),
    st.sampled_from(["SVAGAdam", "cosine", "shuffled_epochs", "mlp", "vgg", "auto", "square_root"]),
    st.lists(st.floats(0, 64), max_size=4),
    st.lists(st.integers(1, 64), max_size=4),
)
VALUES = st.one_of(
    PLAUSIBLE,
    GARBAGE,
    st.lists(GARBAGE, max_size=3),
    st.dictionaries(st.text(max_size=5), GARBAGE, max_size=2),
)


@st.composite
def changed_configs(draw):
    """A study and its config with one to three fields replaced, deleted or added."""
    study = draw(st.sampled_from(STUDIES))
    config = copy.deepcopy(CONFIGS[study])
    for _ in range(draw(st.integers(1, 3))):
        *parents, name = draw(st.sampled_from(list(paths_of(config)) or [("seed",)]))
        part = config
        for parent in parents:
            part = part[parent]
        how = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add"]))
        if how == "delete":
            del part[name]
        elif how == "add":
            part[draw(st.text(min_size=1, max_size=8))] = draw(VALUES)
        else:
            part[name] = draw(VALUES)
    return study, config


def grid_of(study, config):
    if study == "train":
        return [training.build_run(config, NUM_TRAIN)]
    if study == "noisy_gradient_descent":
        return [
            run
            for arm in noisy_gradient_descent.build_arms(config, NUM_TRAIN)
            for run in arm["runs"]
        ]
    module = {
        "sde_validity": sde_validity,
        "linear_scaling": linear_scaling,
        "weak_convergence": weak_study,
    }[study]
    grid = module.build_grid(config, NUM_TRAIN)
    return [run for cell in grid.values() for run in cell] if isinstance(grid, dict) else grid


def is_large(config):
    numbers = [config["num_seeds"], config["max_num_seeds"], config["num_records"]]
    numbers += [part.get("num_seeds", 0) for part in config.values() if isinstance(part, dict)]
    return max(numbers) > MANY


def check_config(study, config):
    """Takes a config as far as a study does before it builds a network."""
    before = repr(config)
    valid = validate_config(config, study)
    assert repr(config) == before  # the user's own is left alone
    # What was validated and written to `config.json` is accepted, and the same.
    written = json.loads(json.dumps(to_json(valid), allow_nan=False))
    again = validate_config(written, study)
    assert differences(written, to_json(again), ignore=()) == []
    if not is_large(valid):
        check_records(valid, grid_of(study, valid))


@pytest.mark.parametrize("examples", [50, pytest.param(5000, marks=pytest.mark.slow)])
def test_changed_configs(examples):
    @settings(settings.get_profile("faults"), max_examples=examples)
    @given(changed_configs())
    def check(pair):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                check_config(*pair)
            except ValueError as error:
                assert is_ours(error), f"{error!r} from {pair!r}"
                assert "Received" in str(error), error

    check()


@pytest.mark.parametrize("config", [None, 3, "config", [], ["seed"]], ids=repr)
def test_what_is_no_config(config):
    with pytest.raises(ValueError, match="`config` must be .* Received: config="):
        validate_config(config)
