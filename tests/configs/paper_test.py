"""Tests of configs/cifar10.py, cifar100.py, svhn.py and of the table in docs/experiments.md."""

import functools
import pathlib
import re

import numpy as np
import pytest

import keras_svag
from configs import cifar10, cifar100, svhn
from keras_svag.config import experiments, validate_config
from keras_svag.config.experiments import LINEAR_SCALING, NOISY_GRADIENT_DESCENT
from keras_svag.config.optimizer import build_optimizer
from keras_svag.config.recipe import build_network
from keras_svag.recipe import TrainingFacts
from keras_svag.studies import STUDIES
from tests.configs.steps import take_step

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIGS = {"cifar10": cifar10, "cifar100": cifar100, "svhn": svhn}
NUM_TRAIN = {"cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257}
NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "svhn": 10}
COMMAND = re.compile(
    r"`python -m trainers\.(\w+) --config=configs/(\w+)\.py:(\S+) --workdir=W` \| ([\d,]+) \|"
)
TABLE = [
    (study, data, arguments, int(passes.replace(",", "")))
    for study, data, arguments, passes in COMMAND.findall(
        (ROOT / "docs" / "experiments.md").read_text()
    )
    if data in CONFIGS
]


def specs_of(config, study, data):
    """All runs of a study, and the number of training examples."""
    num_train = config["dataset"]["num_train"] or NUM_TRAIN[data]
    optimizer, rule = build_optimizer(config)
    facts = TrainingFacts(
        type(optimizer).__name__,
        momentum=0.0,
        rule=rule,
        learning_rate=config["learning_rate"],
        learning_rate_power=1.0,  # plain SGD
        weight_decay=config["weight_decay"],
        weight_decay_power=0.0,
        batch_size=config["base_batch_size"],
        epochs=config["epochs"],
        num_train=num_train,
        sampling=config["sampling"],
    )
    fields = {"num_seeds": config["num_seeds"], **config[study]}
    return STUDIES[study](facts, **fields).specs({}), num_train


def passes_over_data(config, study, data):
    """Cost of a study: gradients of single examples, over the number of examples."""
    specs, num_train = specs_of(validate_config(config, study), study, data)
    gradients = [spec.batch_size * spec.gradient_evaluations(num_train) for spec in specs]
    return round(sum(gradients) / num_train)


def network_of(data, model):
    return build_network(dict(model), (32, 32, 3), NUM_CLASSES[data], 1.0, seed=0)


@functools.cache
def full_size(data, model):
    """Parameter count of a network at the paper's size."""
    return network_of(data, model).count_params()


@functools.cache
def one_step(data, model, optimizer, batch_size, learning_rate):
    """Loss before and after a step, and noise, of a small network on random images."""
    # No weight decay, so that it is the gradient that moves a weight.
    config = {**dict(optimizer), "optimizer": dict(dict(optimizer)["optimizer"]), "weight_decay": 0}
    base, rule = build_optimizer(config)
    scaled = keras_svag.scale_optimizer(base, batch_size / config["base_batch_size"], rule)
    assert float(scaled.learning_rate) == pytest.approx(learning_rate)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 32, 32, 3)).astype("float32")
    y = rng.integers(NUM_CLASSES[data], size=4)
    return take_step(network_of(data, model), scaled, x, y)


def test_the_table_has_every_experiment_of_the_authors_list():
    # Their README: SVAG at 64, 128, 1024; wide, GN, VGG-16 with BN, GN and nothing; triangle and
    # cosine for two networks; scaling for PreResNet-32 BN, GN, VGG-19 GN, ResNet-32, wide BN, GN;
    # Gaussian noise at 500, 125 and wide.
    def experiment(study, data, arguments):
        config = validate_config(CONFIGS[data].get_config(arguments), study)
        model = config["model"]
        sizes = config[study]["batch_sizes"]
        return (
            f"{model['name']}{model['depth']}",
            model["norm"],
            model["width"],
            config["schedule"]["name"],
            "scaling" if study == LINEAR_SCALING else sizes[0],
        )

    svag, scaling, gaussian = (
        {experiment(*row[:3]) for row in TABLE if row[1] == "cifar10" and row[0] == study}
        for study in ("sde_validity", LINEAR_SCALING, NOISY_GRADIENT_DESCENT)
    )
    assert svag == {
        *(("preresnet32", "batch", 1.0, "step", b) for b in (64, 128, 1024)),
        ("preresnet32", "group", 1.0, "step", 128),
        ("preresnet32", "batch", 4.0, "step", 128),
        *(("vgg16", norm, 1.0, "step", 128) for norm in ("batch", "group", "none")),
        *(
            (network, "batch", 1.0, schedule, 128)
            for network in ("preresnet32", "vgg16")
            for schedule in ("triangle", "cosine")
        ),
    }
    assert scaling == {
        *(
            ("preresnet32", norm, w, "step", "scaling")
            for norm in ("batch", "group")
            for w in (1, 4)
        ),
        ("vgg19", "group", 1.0, "step", "scaling"),
        ("resnet32", "batch", 1.0, "step", "scaling"),
    }
    assert gaussian == {
        ("preresnet32", "group", 1.0, "step", 500),
        ("preresnet32", "group", 1.0, "step", 125),
        ("preresnet32", "group", 4.0, "step", 500),
    }
    assert {row[1] for row in TABLE} == set(CONFIGS) and len(TABLE) == len(set(TABLE))
    figures = {experiments.parse_arguments(row[2])["figure"] for row in TABLE}
    assert figures == set(experiments.FIGURES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[1]}:{row[2]}")
def test_experiment(row):
    study, data, arguments, passes = row
    config = CONFIGS[data].get_config(arguments)
    assert passes_over_data(config, study, data) == passes
    config = validate_config(config, study)
    network = {"model": tuple(sorted(config["model"].items()))}
    assert full_size(data, network["model"]) > 400_000
    # The learning rate is 0.8 at 128, and in proportion (or as the authors have it).
    assert config["learning_rate"] == (0.01 if config["model"]["norm"] == "none" else 0.8)

    tiny = validate_config(CONFIGS[data].get_config(arguments + ",size=tiny"), study)
    run = specs_of(tiny, study, data)[0][0]
    optimizer = {
        name: tuple(tiny[name].items()) if name == "optimizer" else tiny[name]
        for name in ("optimizer", "learning_rate", "weight_decay", "base_batch_size")
    }
    logs, before, after = one_step(
        data,
        tuple(sorted(tiny["model"].items())),
        tuple(optimizer.items()),
        run.batch_size,
        run.learning_rate,
    )
    assert np.isfinite([logs["loss"], logs["gradient_noise"], logs["gradient_signal"]]).all()
    # The gradient reaches every weight.
    assert all((a != b).any() and np.isfinite(b).all() for a, b in zip(before, after))


@pytest.mark.parametrize("data", CONFIGS)
def test_each_config_opens_with_commands_that_it_understands(data):
    text = (ROOT / "configs" / f"{data}.py").read_text()
    commands = re.findall(r"trainers\.(\w+) --config=\$F:(\S+)", text)
    assert len(commands) == 3 and f"F=configs/{data}.py" in text
    for study, arguments in commands:
        validate_config(CONFIGS[data].get_config(arguments), study)
        validate_config(CONFIGS[data].get_config(arguments + ",size=medium"), study)


def test_arguments_change_the_config():
    arguments = "figure=svag_convergence,norm=gn,batch_size=1024,width=2,schedule=cosine"
    config = validate_config(cifar10.get_config(arguments), "sde_validity")
    assert config["model"] | {"epsilon": None} == {
        "name": "preresnet",
        "depth": 32,
        "width": 2.0,
        "norm": "group",
        "affine": False,
        "train_last_layer": False,
        "epsilon": None,
    }
    assert config["sde_validity"]["batch_sizes"] == [1024]
    specs, _ = specs_of(config, "sde_validity", "cifar10")
    assert specs[0].learning_rate == pytest.approx(6.4)
    assert config["schedule"]["name"] == "cosine" and config["epochs"] == 160.0
    assert cifar100.get_config("").model.width == 4  # the authors' baseline
    assert cifar100.get_config("model=vgg16").model.width == 1
    assert not svhn.get_config("").dataset.augment and cifar10.get_config("").dataset.augment
    assert not cifar10.get_config("figure=ngd").dataset.augment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "figure=linear_scaling,batch_size=64",
            "linear_scaling.*batch_size=64",
        ),
        ("figure=fig1", "'svag_convergence'.*figure='fig1'"),
        ("figure", "Received: 'figure'"),
        ("depth=32", "figure, norm.*'depth=32'"),
        ("norm=batch", "'bn'.*norm='batch'"),
        ("model=lenet", "'preresnet8'.*model='lenet'"),
        ("schedule=poly", "'step'.*schedule='poly'"),
        ("size=big", "'paper'.*size='big'"),
        ("batch_size=many", "number.*batch_size='many'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        cifar10.get_config(arguments)
