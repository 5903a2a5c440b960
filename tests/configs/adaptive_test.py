"""Tests of configs/adaptive.py."""

import keras
import numpy as np
import pytest

import keras_svag
from configs import adaptive
from keras_svag.config import validate_config
from keras_svag.config.optimizer import build_optimizer
from keras_svag.config.recipe import build_network
from keras_svag.config.schedule import build_schedule
from tests.configs.paper_test import COMMAND, ROOT
from tests.configs.steps import take_step

STUDIES = ("sde_validity", "linear_scaling")
# Shape and number of classes of examples of random numbers.
IMAGES, TOKENS = ((32, 32, 3), 10), ((16,), 20)


def config_of(arguments, study):
    return validate_config(adaptive.get_config(arguments), study)


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("size", ["paper", "medium", "tiny"])
@pytest.mark.parametrize("figure", ["adam", "rmsprop"])
@pytest.mark.parametrize("model", ["preresnet8", "resnet56", "vgg16", "gpt"])
def test_every_experiment(model, figure, size, study):
    text = f"figure={figure},model={model},size={size}"
    config = adaptive.get_config(text)
    if model == "gpt":
        config.dataset.path = "a.txt"
    config = validate_config(config, study)
    optimizer, _ = build_optimizer(config)
    assert type(optimizer) is keras_svag.SVAGAdam
    assert (optimizer.beta_1 == 0) == (figure == "rmsprop")
    # Every batch size of the study has a rate above 0.
    if study == "linear_scaling":
        largest = max(config["linear_scaling"]["batch_sizes"])
        keras_svag.scale_optimizer(optimizer, largest / config["base_batch_size"])


def test_costs_in_the_documentation():
    page = (ROOT / "docs" / "experiments.md").read_text("utf-8")
    rows = [row for row in COMMAND.findall(page) if row[1] == "adaptive"]
    for study, _, arguments, passes in rows:
        config = config_of(arguments.partition(" ")[0], study)
        grid = config[study]
        factor = sum(grid["ells"]) if study == "sde_validity" else len(grid["batch_sizes"])
        # Two gradients a step, an epoch of a batch size being a pass.
        expected = 2 * factor * config["epochs"] * config["num_seeds"]
        assert expected == int(passes.replace(",", "")), arguments
    assert len(rows) == 5


def test_settings_of_the_authors():
    config = config_of("", "sde_validity")
    assert (config["model"]["name"], config["model"]["depth"]) == ("resnet", 56)
    assert config["epochs"] == 500 and config["schedule"]["decay_at"] == [0.6]
    assert config_of("figure=rmsprop", "sde_validity")["schedule"]["decay_at"] == [0.6, 0.8]
    assert config["l2"] == 1e-4 and config["weight_decay"] == 0
    assert config["sde_validity"]["ells"] == [1, 4, 16, 64]
    rate = build_schedule(config["schedule"], 1e-3, 5000, base_total=5000)
    # Warm-up over 10 of 500 epochs.
    assert float(rate(0)) < 1e-5 and float(rate(50)) == pytest.approx(5e-4, rel=0.02)


@pytest.mark.parametrize("model", ["preresnet8", "resnet56", "vgg16", "gpt"])
def test_a_step_of_each_network_moves_all_weights(model):
    config = adaptive.get_config(f"model={model},size=tiny")
    if model == "gpt":
        config.dataset.path = "a.txt"
    config = validate_config(config, "sde_validity")
    shape, classes = TOKENS if model == "gpt" else IMAGES
    network = build_network(config["model"], shape, classes, 1.0, seed=0, l2=config["l2"])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *shape)).astype("float32")
    if model == "gpt":
        x = rng.integers(classes, size=(4, *shape)).astype("int32")
    y = rng.integers(classes, size=(4, *(shape if model == "gpt" else ()))).astype("int32")
    logs, before, after = take_step(network, build_optimizer(config)[0], x, y)
    assert np.isfinite([logs["loss"], logs["gradient_noise"]]).all()
    assert all((a != b).any() and np.isfinite(b).all() for a, b in zip(before, after))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("figure=sgd", "'adam'.*figure='sgd'"),
        ("norm=gn", "figure, model, size.*'norm=gn'"),
        ("model=lenet", "'preresnet8'.*model='lenet'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        adaptive.get_config(arguments)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("l2", -1.0, r"`l2`.*l2=-1"),
        ("exclude_from_weight_decay", 3, r"`optimizer\.exclude_from_weight_decay`.*=\[3\]"),
    ],
)
def test_wrong_fields(field, value, message):
    config = adaptive.get_config("size=tiny").to_dict()
    (config if field == "l2" else config["optimizer"])[field] = value
    with pytest.raises(ValueError, match=message):
        validate_config(config, "sde_validity")


def test_exclusion_of_a_config_reaches_the_optimizer():
    config = adaptive.get_config("size=tiny")
    config.optimizer.exclude_from_weight_decay = ("bias", "gamma")
    optimizer, _ = build_optimizer(validate_config(config, "sde_validity"))
    kernel, gamma = (keras.Variable([1.0], name=name) for name in ("kernel", "gamma"))
    assert optimizer._use_weight_decay(kernel) and not optimizer._use_weight_decay(gamma)
