"""Fuzz of recipes and of whole configs: they train, or a `ValueError` of ours says why not.

Beyond tests/faults/fuzz_config_test.py the networks are built, and everything is checked that a
study checks before it writes.
"""

import contextlib
import functools
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_svag import Recipe, check_linear_scaling, check_sde
from keras_svag.config import build_study
from keras_svag.datasets import PadCropFlip
from keras_svag.engine.processes.executor import ExecutorPool
from keras_svag.engine.processes.pool import RunPool
from keras_svag.studies.base.study import STUDIES
from keras_svag.studies.training import Training
from tests.faults.fuzz_config_test import changed_configs, is_large
from tests.faults.fuzz_functions_test import GARBAGE, is_huge, is_ours, mostly

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = np.arange(32) % 3
Schedules = keras.optimizers.schedules


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])


def build_with_dropout(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dropout(0.1), keras.layers.BatchNormalization(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4,)), *layers])


def build_two_outputs(seed):
    keras.utils.set_random_seed(seed)
    x = keras.Input((4,))
    return keras.Model(x, {"a": keras.layers.Dense(3)(x), "b": keras.layers.Dense(1)(x)})


class Subclassed(keras.Model):
    """A network that is built by its first call."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def build_subclassed(seed):
    keras.utils.set_random_seed(seed)
    return Subclassed()


def raising(error):
    def function(*arguments):
        raise error

    return function


def of_other_inputs(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])


def of_other_outputs(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


MODELS = [
    build_with_dropout,
    build_two_outputs,
    build_subclassed,
    of_other_inputs,
    of_other_outputs,
    build(0),
    keras.Model,
    raising(KeyError("no such layer")),
    raising(TypeError("\x1b[1mtwo\nlines\x1b[0m")),
    lambda: build(0),
    lambda seed: build(0),
    lambda seed: None,
    lambda seed: keras.layers.Dense(3),
    lambda seed: keras.Sequential([keras.Input((4,)), keras.layers.Flatten()]),
    lambda seed: keras.Sequential(),
    functools.partial(build),
]
ARRAYS = [
    X,
    X[:, 0],
    X[:7],
    X.astype(np.float16),
    X.astype(np.complex64),
    X.astype(str),
    X.astype(object),
    X[:, :, None, None],
    X[:0],
    X * np.nan,
    np.float32(3),
    np.zeros((32, 0)),
    Y,
    Y + 1,
    Y.astype(bool),
    Y.astype(np.uint8),
    Y[:, None],
    Y - 2**40,
    np.eye(3)[Y],
    Y.astype("datetime64[s]"),
    [1, 2, 3],
    X.tolist(),
    None,
    {},
    {"a": X, "b": X},
    {"a": Y, "b": X[:, :1]},
    [X, None],
    [X, X],
    [],
    range(32),
    (x for x in X),
]
DATA = st.one_of(
    st.tuples(st.sampled_from(ARRAYS), st.sampled_from(ARRAYS)),
    st.tuples(st.just(X), st.sampled_from(ARRAYS)),
    st.tuples(st.just(X), st.just(Y), st.sampled_from([*ARRAYS, np.ones(32), -np.ones(32)])),
    st.sampled_from(ARRAYS),
    GARBAGE,
)
OPTIMIZERS = [
    keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    keras.optimizers.SGD(Schedules.CosineDecay(0.1, 10)),
    keras.optimizers.SGD(lambda: 0.1),
    keras.optimizers.SGD(0.1, clipnorm=1.0),
    keras.optimizers.SGD(0.1, global_clipnorm=1.0),
    keras.optimizers.SGD(0.0),
    keras.optimizers.SGD(-1.0),
    keras.optimizers.SGD(float("nan")),
    keras.optimizers.SGD(0.1, weight_decay=-1.0),
    keras.optimizers.SGD(0.1, weight_decay=float("inf")),
    keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    keras.optimizers.SGD(0.1, use_ema=True),
    keras.optimizers.SGD(0.1, loss_scale_factor=2.0),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    keras.optimizers.Adam(1e-3, beta_1=0.0, amsgrad=True),
    keras.optimizers.AdamW(1e-3),
    keras.optimizers.RMSprop(1e-3, momentum=0.9, centered=True),
    keras.optimizers.Lion(1e-3),
    keras.optimizers.Adafactor(),
    keras.optimizers.Muon(),
    keras.optimizers.Ftrl(),
    keras.optimizers.SGD,
    "sgd",
    {"class_name": "SGD"},
]
LOSSES = [
    "mse",
    "nope",
    "kl_divergence",
    "binary_crossentropy",
    "categorical_crossentropy",
    keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
    {"a": "sparse_categorical_crossentropy", "b": "mse"},
    {"a": "mse"},
    {"c": "mse"},
    ["mse", "mse"],
    [],
    lambda y, p: keras.ops.mean(p, axis=-1),
    lambda y, p: None,
    lambda y: 0.0,
    raising(AttributeError("no")),
]
METRICS = [
    ["accuracy"],
    "accuracy",
    ["nope"],
    [keras.metrics.MeanSquaredError()],
    [keras.metrics.SparseCategoricalAccuracy],
    [lambda y, p: keras.ops.mean(p)],
    [raising(KeyError("x"))],
    {"a": ["accuracy"]},
    {"c": "mse"},
    [["accuracy"], []],
    [None],
]
FUNCTIONS = [
    lambda x: x * 2,
    lambda x: x[:, :2],
    lambda x: None,
    lambda x: np.asarray(x) + 1,
    raising(IndexError("no")),
    build(0),
]
AUGMENTATIONS = [
    lambda x, u: x + u[:, :1],
    lambda x, u: x[:, :1],
    lambda x, u: x + np.random.normal(),
    lambda x, u: np.asarray(x),
    lambda x: x,
    PadCropFlip(),
    PadCropFlip,
    raising(ZeroDivisionError("no")),
]
SCHEDULES = [
    lambda rate, total: rate,
    lambda rate, total: Schedules.CosineDecay(rate, total),
    lambda rate, total: None,
    lambda rate: rate,
    lambda rate, total: "fast",
    raising(KeyError("no")),
    Schedules.CosineDecay(0.1, 10),
]
COUNT = st.one_of(st.integers(-1, 64), st.sampled_from([10**6, 2**31, 0.5, 8.0]), GARBAGE)
GOOD = {
    "model": build,
    "train_data": (X, Y),
    "optimizer": keras.optimizers.SGD(0.1, weight_decay=1e-3),
    "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "batch_size": 8,
    "epochs": 4,
}
ARGUMENTS = {
    "model": mostly(st.sampled_from(MODELS)),
    "train_data": DATA,
    "optimizer": mostly(st.sampled_from(OPTIMIZERS)),
    "loss": mostly(st.sampled_from(LOSSES)),
    "batch_size": COUNT,
    "epochs": st.one_of(COUNT, st.floats(0, 5)),
    "test_data": DATA,
    "metrics": mostly(st.sampled_from(METRICS)),
    "augment": mostly(st.sampled_from(AUGMENTATIONS)),
    "preprocess": mostly(st.sampled_from(FUNCTIONS)),
    "sampling": mostly(st.sampled_from(["shuffled_epochs", "without_replacement"])),
    "rule": mostly(st.sampled_from(["auto", "linear", "heavy_ball", "square_root"])),
    "schedule": mostly(st.sampled_from(SCHEDULES)),
    "num_uniforms": COUNT,
}
NUMBERS = st.one_of(
    st.lists(st.integers(0, 64), max_size=5),
    st.lists(st.floats(0.5, 64), max_size=5),
    st.sampled_from([(1, 2, 4), (1, 2, 2.0000000000004, 4), (2, 4), "124", {1: 2}]),
    st.floats(0, 4),
    GARBAGE,
)
FIELDS = st.one_of(NUMBERS, st.sampled_from(["closeness", "second_moment", "auto"]))
ALL_STUDIES = STUDIES | {Training.name: Training}


@st.composite
def changed_recipes(draw):
    """Arguments of a recipe, some of them wrong, and of a study on it."""
    names = draw(st.lists(st.sampled_from(list(ARGUMENTS)), max_size=2, unique=True))
    arguments = GOOD | {name: draw(ARGUMENTS[name]) for name in names}
    study = ALL_STUDIES[draw(st.sampled_from(list(ALL_STUDIES)))]
    small = {"num_seeds": 2, "max_num_seeds": 2, "num_records": 8}
    known = (*small, *study.own_fields, "seed", "closeness", "window", "checkpoint_steps")
    fields = draw(st.lists(st.sampled_from(known), max_size=2 if len(names) < 2 else 0))
    return arguments, study, small | {name: draw(FIELDS) for name in fields}


def assert_one_sentence(error, source):
    assert is_ours(error), f"{error!r} from {source!r}"
    assert "Received" in str(error), error
    assert "\n" not in str(error) and "\x1b" not in str(error), str(error)


def try_to(function, source):
    """Calls a function; returns False if it raised a `ValueError` of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            function()
        except ValueError as error:
            assert_one_sentence(error, source)
            return False
    return True


def is_small(fields):
    return not any(
        is_huge(value) or isinstance(value, float) and value > 1e4 for value in fields.values()
    )


PROFILES = [25, pytest.param(600, marks=pytest.mark.slow)]


@pytest.mark.parametrize("examples", PROFILES)
def test_changed_recipes(examples):
    outcomes = []

    @settings(settings.get_profile("faults"), max_examples=examples)
    @given(changed_recipes())
    def check(source):
        arguments, study, fields = source
        if not is_small(fields):
            return

        def prepare():
            built = study(Recipe(**arguments), **fields)
            built.check()
            built.describe_environment()
            built.describe()

        outcomes.append(try_to(prepare, source))

    check()
    assert 0.05 < np.mean(outcomes) < 0.9  # both happen


@pytest.mark.parametrize("examples", PROFILES)
def test_changed_configs_with_their_networks(examples):
    @settings(settings.get_profile("faults"), max_examples=examples)
    @given(changed_configs())
    def check(source):
        name, config = source
        model = config.get("model")
        if isinstance(model, dict) and not (
            model.get("name", "mlp") == "mlp" and is_small(model) and is_tiny(model)
        ):
            return  # a network of any size

        def prepare():
            study, _ = build_study(config, name)
            if not is_large(study.config):
                study.check()
                study.describe_environment()

        try_to(prepare, source)

    check()


def is_tiny(model):
    return all(
        not isinstance(model.get(n), (int, float)) or model[n] < 20 for n in ("depth", "width")
    )


ONE_CALL = {
    "ells": NUMBERS,
    "kappas": NUMBERS,
    "num_seeds": COUNT,
    "closeness": FIELDS,
    "window": NUMBERS,
    "num_records": COUNT,
    "seed": COUNT,
    "workdir": GARBAGE,
    "num_workers": COUNT,
    "executor": GARBAGE,
    "criteria": st.one_of(
        st.sampled_from([{"a": {"ratio": 2}}, {"a": {"ratio": None}}, {"a": 3}, {3: {"b": 1}}]),
        GARBAGE,
    ),
}


class Reached(Exception):
    """Raised where nothing is left to check."""


@pytest.mark.parametrize("examples", PROFILES)
def test_changed_arguments_of_one_call(examples, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # As far as a study goes before it starts processes and writes.
    for pool in (RunPool, ExecutorPool):
        monkeypatch.setattr(pool, "__enter__", raising(Reached()))

    @settings(settings.get_profile("faults"), max_examples=examples)
    @given(
        st.sampled_from([check_sde, check_linear_scaling]),
        st.lists(st.sampled_from(list(ONE_CALL)), min_size=1, max_size=2, unique=True),
        st.data(),
    )
    def check(function, names, data):
        other = "kappas" if function is check_sde else "ells"
        names = [name for name in names if name != other]
        if function is check_linear_scaling:
            names = [name for name in names if name != "criteria"]
        options = {name: data.draw(ONE_CALL[name]) for name in names}
        if not is_small(options):
            return
        arguments = GOOD | {"model_fn": build} | options
        del arguments["model"]
        with contextlib.suppress(Reached):
            try_to(lambda: function(**arguments, show_progress=False), options)

    check()
    assert list(tmp_path.iterdir()) == []
