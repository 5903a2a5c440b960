"""Fuzz of configs: a changed field is taken, or refused by a `ValueError` of ours."""

import copy
import json
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import digits, weak_convergence
from keras_svag._json import to_json
from keras_svag.config import build_study
from keras_svag.config import study as config_study
from keras_svag.config.optimizer import build_optimizer
from keras_svag.optimizers.scaling import find_rule
from keras_svag.recipe import TrainingFacts
from keras_svag.studies.base.checks import check_records
from keras_svag.studies.base.workdir import differences
from tests.faults.fuzz_functions_test import GARBAGE, is_ours

NUM_TRAIN = 1437
STUDIES = (
    *("sde_validity", "linear_scaling", "branched_batch_size", "noisy_gradient_descent"),
    *("weak_convergence", "train"),
)
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


@pytest.fixture
def no_networks(monkeypatch):
    """Studies from the numbers of a config alone: a fuzzed network may be of any size."""

    def facts_of(config):
        optimizer, rule = build_optimizer(config)
        rule = find_rule(optimizer, rule)
        return TrainingFacts(
            type(optimizer).__name__,
            momentum=float(getattr(optimizer, "momentum", 0.0) or 0.0),
            rule=rule.name,
            learning_rate=config["learning_rate"],
            learning_rate_power=rule.powers["learning_rate"],
            weight_decay=config["weight_decay"],
            weight_decay_power=rule.powers.get("weight_decay", 0.0),
            batch_size=config["base_batch_size"],
            epochs=config["epochs"],
            num_train=NUM_TRAIN,
            sampling=config["sampling"],
        )

    monkeypatch.setattr(config_study, "build_recipe", facts_of)


def is_large(config):
    numbers = [config["num_seeds"], config["max_num_seeds"], config["num_records"]]
    numbers += [part.get("num_seeds", 0) for part in config.values() if isinstance(part, dict)]
    return max(numbers) > MANY


def check_config(study, config):
    """Takes a config as far as a study does before it builds a network."""
    before = repr(config)
    valid, _ = build_study(config, study)
    assert repr(config) == before  # the user's own is left alone
    # What was validated and written to `config.json` is accepted, and the same.
    written = json.loads(json.dumps(to_json(valid.describe()), allow_nan=False))
    name = written.pop("study")
    again, _ = build_study(written, name)
    assert differences(written, to_json(again.config), mutable=()) == []
    if not is_large(valid.config):
        check_records(valid.specs(valid.first_plan()), valid.recording, valid.window)


@pytest.mark.parametrize("examples", [50, pytest.param(5000, marks=pytest.mark.slow)])
def test_changed_configs(no_networks, examples):
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
    with pytest.raises(ValueError, match="config.*Received: config="):
        build_study(config, "sde_validity")
