"""Tests of configs/cifar10.py, cifar100.py, svhn.py and of the table in docs/experiments.md."""

import functools
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_svag
from configs import cifar10, cifar100, svhn
from keras_svag.study import linear_scaling, noisy_gradient_descent, paper, sde_validity
from keras_svag.study.config import LINEAR_SCALING, NOISY_GRADIENT_DESCENT, validate_config
from keras_svag.study.optimizer import build_optimizer, scaled_learning_rate
from keras_svag.study.program import build_network

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
]


def runs_of(config, study, num_train):
    """All runs of a study."""
    if study == LINEAR_SCALING:
        return [
            run for cell in linear_scaling.build_grid(config, num_train).values() for run in cell
        ]
    if study == NOISY_GRADIENT_DESCENT:
        arms = noisy_gradient_descent.build_arms(config, num_train)
        return [run for arm in arms for run in arm["runs"]]
    return sde_validity.build_grid(config, num_train)


def passes_over_data(config, study, data):
    """Cost of a study: gradients of single examples, over the number of examples."""
    config = validate_config(config, study)
    num_train = config["dataset"]["num_train"] or NUM_TRAIN[data]
    grid = runs_of(config, study, num_train)
    gradients = [run.batch_size * run.gradient_evaluations(num_train) for run in grid]
    return round(sum(gradients) / num_train)


class FakeData:
    """What `build_network` asks of a data set."""

    def __init__(self, name):
        self.input_shape, self.num_classes = (32, 32, 3), NUM_CLASSES[name]


@functools.cache
def full_size(data, model):
    """Parameter count of a network at the paper's size."""
    config = {"model": dict(model), "initial_scale": 1.0}
    return build_network(config, FakeData(data), seed=0).count_params()


@functools.cache
def one_step(data, model, optimizer, batch_size, learning_rate):
    """Loss before and after a step, and noise, of a small network on random images."""
    config = {"model": dict(model), "initial_scale": 1.0, **dict(optimizer)}
    config["optimizer"] = dict(config["optimizer"])
    config["weight_decay"] = 0.0  # so that it is the gradient that moves a weight
    network = keras_svag.from_keras(build_network(config, FakeData(data), seed=0))
    network.compile(
        build_optimizer(config, batch_size, learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 32, 32, 3)).astype("float32")
    y = rng.integers(NUM_CLASSES[data], size=4)
    before = [w.numpy() for w in network.trainable_variables]
    logs = network.train_on_batch(x, y, return_dict=True)
    return logs, before, [w.numpy() for w in network.trainable_variables]


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
    figures = {paper.parse_arguments(row[2])["figure"] for row in TABLE}
    assert figures == set(paper.FIGURES)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[1]}:{row[2]}")
def test_experiment(row):
    study, data, arguments, passes = row
    config = CONFIGS[data].get_config(arguments)
    assert passes_over_data(config, study, data) == passes
    config = validate_config(config, study)
    network = {"model": tuple(sorted(config["model"].items()))}
    assert full_size(data, network["model"]) > 400_000
    # The learning rate is 0.8 at 128, and in proportion (or as the authors have it).
    rate = scaled_learning_rate(config, config["base_batch_size"])
    assert rate == (0.01 if config["model"]["norm"] == "none" else 0.8)

    tiny = validate_config(CONFIGS[data].get_config(arguments + ",size=tiny"), study)
    run = runs_of(tiny, study, tiny["dataset"]["num_train"])[0]
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
        validate_config(CONFIGS[data].get_config(arguments + ",size=small"), study)


def test_arguments_change_the_config():
    arguments = "figure=svag_convergence,norm=gn,batch_size=1024,width=2,schedule=cosine"
    config = validate_config(cifar10.get_config(arguments))
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
    assert scaled_learning_rate(config, 1024) == pytest.approx(6.4)
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
            "`batch_size` is not for figure=linear_scaling.*Received: batch_size=64",
        ),
        ("figure=fig1", "`figure` must be one of 'svag_convergence', .*Received: figure='fig1'"),
        ("figure", "must be a list such as .*Received: 'figure'"),
        ("depth=32", "must be a list such as .*, of figure, norm, .*Received: 'depth=32'"),
        ("norm=batch", "`norm` must be one of 'bn', .*Received: norm='batch'"),
        ("model=lenet", "`model` must be one of 'preresnet8', .*Received: model='lenet'"),
        ("schedule=poly", "`schedule` must be one of 'step', .*Received: schedule='poly'"),
        ("size=big", "`size` must be one of 'paper', .*Received: size='big'"),
        ("batch_size=many", "`batch_size` must be a number. Received: batch_size='many'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        cifar10.get_config(arguments)
