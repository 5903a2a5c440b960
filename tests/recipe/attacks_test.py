"""Identity of recipes: every change that affects a run is seen, and nothing is lost."""

import functools
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.processes import transfer
from keras_svag.engine.recording import Recording
from keras_svag.studies.base.workdir import is_same_network

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)
STRENGTH = 1.0


def build(seed, rate=0.1, activation="tanh", decay=0.0, shift=0):
    keras.utils.set_random_seed(seed + shift)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                3, activation, kernel_regularizer=keras.regularizers.L2(decay) if decay else None
            ),
            keras.layers.Dropout(rate),
            keras.layers.Dense(2, "softmax"),
        ]
    )


def make(**changes):
    arguments = {
        "model": build,
        "train_data": (X, Y),
        "optimizer": keras.optimizers.SGD(0.1),
        "loss": "sparse_categorical_crossentropy",
        "batch_size": 4,
        "epochs": 1,
    }
    return Recipe(**(arguments | changes))


class Scaled(keras.losses.Loss):
    """A loss whose setting Keras does not know of."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * keras.losses.sparse_categorical_crossentropy(y_true, y_pred)


def other_scaled(factor):
    class Scaled(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return factor * keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    return Scaled()


class Decay(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule without `get_config`."""

    def __init__(self, start):
        self.start = start

    def __call__(self, step):
        return self.start / (1.0 + keras.ops.cast(step, "float32"))


class Shake:
    def __init__(self, amount):
        self.amount = amount

    def __call__(self, x, u):
        return x + self.amount * (u - 0.5)

    def shake(self, x, u):
        return self(x, u)


def with_closure(amount):
    return lambda x, u: x + amount * (u - 0.5)


def with_default(amount):
    def augment(x, u, amount=amount):
        return x + amount * (u - 0.5)

    return augment


def with_global(strength):
    def make_with_it():
        globals()["STRENGTH"] = strength
        return make(augment=uses_global)

    return make_with_it


def uses_global(x, u):
    return helper(x, u)


def helper(x, u):
    return x + STRENGTH * (u - 0.5)


def executed(text):
    space = {"keras": keras}
    exec(text, space)
    return space["augment"]


def recursive(depth):
    def augment(x, u):
        return x if depth else augment(x, u)

    return augment


def network(**options):
    return lambda: make(model=functools.partial(build, **options))


def augmented(function, amount):
    return lambda: make(augment=function(amount))


CHANGES = {
    "dropout": (network(rate=0.1), network(rate=0.5)),
    "activation before a softmax": (network(), network(activation="relu")),
    "regularizer": (network(), network(decay=0.1)),
    "initial weights": (network(), network(shift=1000)),
    "setting of a loss": (lambda: make(loss=Scaled(2.0)), lambda: make(loss=Scaled(3.0))),
    "body of a loss": (lambda: make(loss=Scaled()), lambda: make(loss=other_scaled(2.0))),
    "closure": (augmented(with_closure, 1.0), augmented(with_closure, 2.0)),
    "default": (augmented(with_default, 1.0), augmented(with_default, 2.0)),
    "object": (augmented(Shake, 1.0), augmented(Shake, 2.0)),
    "method": (lambda: make(augment=Shake(1.0).shake), lambda: make(augment=Shake(2.0).shake)),
    "global of a helper": (with_global(1.0), with_global(2.0)),
    "constant of a console": (
        augmented(executed, "augment = lambda x, u: x + 1.0 * u"),
        augmented(executed, "augment = lambda x, u: x + 2.0 * u"),
    ),
    "tensor": (
        lambda: make(augment=with_closure(keras.ops.convert_to_tensor(1.0))),
        lambda: make(augment=with_closure(keras.ops.convert_to_tensor(2.0))),
    ),
    "number of draws": (
        lambda: make(augment=recursive(1), num_uniforms=4),
        lambda: make(augment=recursive(1), num_uniforms=5),
    ),
    "layer": (
        lambda: make(preprocess=keras.layers.Rescaling(1.0)),
        lambda: make(preprocess=keras.layers.Rescaling(2.0)),
    ),
    "schedule of one's own": (
        lambda: make(optimizer=keras.optimizers.SGD(Decay(0.1))),
        lambda: make(optimizer=keras.optimizers.SGD(Decay(0.2))),
    ),
}


def is_same(*makers):
    (first, network), (second, other) = (
        (recipe.describe(), recipe.describe_network()) for recipe in (make() for make in makers)
    )
    return first == second and is_same_network(network, other)


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_seen_and_the_same_is_not_one(change):
    first, second = CHANGES[change]
    assert is_same(first, first)
    assert is_same(second, second)
    assert not is_same(first, second)


IN_A_PROCESS = """
import json, sys
sys.path.insert(0, {folder!r})
import attacks_test as tests
print(json.dumps(tests.descriptions()))
"""


def descriptions():
    return {name: [make().describe() for make in pair] for name, pair in CHANGES.items()}


def test_descriptions_are_those_of_another_process():
    script = IN_A_PROCESS.format(folder=os.path.dirname(os.path.abspath(__file__)))
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(json.dumps(descriptions()))


def test_loss_keeps_its_settings_also_in_workers(tmp_path):
    recipe = make(loss=Scaled(5.0))
    sent = transfer.unpack(transfer.pack(recipe, tmp_path))
    for loss in (recipe.compile_arguments()["loss"], sent.compile_arguments()["loss"]):
        pred = np.full((1, 2), 0.5, np.float32)
        value = float(loss(np.array([0]), pred))
        np.testing.assert_allclose(value, 5 * np.log(2), rtol=1e-5)


def test_metric_that_cannot_be_made_anew_is_refused():
    class Scale(keras.metrics.Mean):
        def __init__(self, factor=1.0, name="scale", **kwargs):
            super().__init__(name=name, **kwargs)
            self.factor = factor

    with pytest.raises(ValueError, match="Scale"):
        make(metrics=[Scale(5.0)])
    make(metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=1), "accuracy"])


def test_schedule_without_config_trains():
    recipe = make(optimizer=keras.optimizers.SGD(Decay(0.1)), epochs=2)
    optimizer = recipe.optimizer_at(8)
    np.testing.assert_allclose(float(optimizer.learning_rate), 0.2, rtol=1e-6)


def excluding():
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_list=build(0).trainable_variables[:1])
    return optimizer


REFUSED = {
    "ell": {"optimizer": lambda: __import__("keras_svag").SVAG(0.1, ell=4.0)},
    "exclude_from_weight_decay": {"optimizer": excluding},
    "learning_rate": {"optimizer": lambda: keras.optimizers.SGD(lambda: 0.1)},
    "test y": {"test_data": lambda: (X, np.zeros((32, 7), np.int32))},
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_would_be_lost_is_refused(text):
    changes = {name: value() for name, value in REFUSED[text].items()}
    with pytest.raises(ValueError, match=text):
        make(**changes)


UNFIT = {
    "train_data": {"train_data": (X[:, :3], Y)},
    "mze": {"loss": "mze"},
    "acuracy": {"metrics": ["acuracy"]},
    "targets": {"train_data": (X, np.zeros((32, 5, 5), np.float32)), "loss": "mse"},
}


@pytest.mark.parametrize("text", UNFIT)
def test_what_does_not_fit_is_said_in_a_sentence_before_anything_is_trained(text):
    with pytest.raises(ValueError, match=text) as error:
        make(**UNFIT[text]).facts  # noqa: B018
    assert "\n" not in str(error.value)


def test_dropout_without_the_seed_is_refused():
    def unseeded(seed):
        initializers = [keras.initializers.GlorotUniform(seed=seed + i) for i in range(2)]
        return keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3, kernel_initializer=initializers[0]),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(2, "softmax", kernel_initializer=initializers[1]),
            ]
        )

    with pytest.raises(ValueError, match="set_random_seed"):
        make(model=unseeded).facts  # noqa: B018


def test_array_changed_in_place_is_another_one_to_the_next_recipe():
    x = X.copy()

    def loss():
        program = CompiledTraining(make(train_data=(x, Y)), Recording(), 4)
        program.start(1.0, 0)
        return program.evaluate()["train_loss"]

    first = loss()
    keep = make(train_data=(x, Y))
    x *= 3
    changed = loss()
    x /= 3
    assert changed != first
    np.testing.assert_allclose(loss(), first, rtol=1e-5)
    assert keep.num_train == 32
