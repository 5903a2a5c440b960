"""Tests of recipes: accepted and rejected arguments, and the facts that verdicts rest on."""

import itertools

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import Recipe
from keras_svag.studies import SDEValidity

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype("float32")
Y = X[:, :1]


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def make(**changes):
    fields = {"model": build, "train_data": (X, Y), "optimizer": keras.optimizers.SGD(0.1)}
    fields |= {"loss": "mse", "batch_size": 8, "epochs": 2, **changes}
    return Recipe(**fields)


def run(workdir, **changes):
    """Runs a study of a recipe in a folder, as a user does."""
    study = SDEValidity(make(**changes), ells=(1, 2, 4), num_seeds=2, num_records=4)
    return study.run(workdir, num_workers=1, show_progress=False)


# Model functions.


def ignores_its_seed(seed):
    return build(0)


CALLS = itertools.count()


def draws_anew(seed):
    return build(next(CALLS))


def raises(seed):
    raise RuntimeError("no more layers")


def returns_no_model(seed):
    return [keras.layers.Dense(1)]


def nothing_to_train(seed):
    network = build(seed)
    network.trainable = False
    return network


class Preprocessing(keras.Sequential):
    def fit(self, x, y, **kwargs):
        return super().fit(x / 255, y, **kwargs)


class OwnStep(keras.Sequential):
    def train_step(self, *args):
        return super().train_step(*args)


def steps(seed):
    keras.utils.set_random_seed(seed)
    return OwnStep([keras.Input((4,)), keras.layers.Dense(1)])


def preprocesses(seed):
    keras.utils.set_random_seed(seed)
    return Preprocessing([keras.Input((4,)), keras.layers.Dense(1)])


def changes_shapes(x, u):
    return x[:, :2]


def with_hole(index, value=np.nan):
    x = X.copy()
    x[index, 1] = value
    return x


WORDS = np.array(["a", None] * 32, dtype=object)
REFUSED = {
    "model ignores its seed": ({"model": ignores_its_seed}, "ignores_its_seed.*seeds 0 and 1"),
    "model draws anew": ({"model": draws_anew}, "draws_anew.*seed 0.*set_random_seed"),
    "model raises": ({"model": raises}, "raises.*RuntimeError.*no more layers"),
    "model is a list": ({"model": returns_no_model}, "returns_no_model.*list"),
    "model has nothing to train": ({"model": nothing_to_train}, "nothing_to_train.*none"),
    "model is a network": ({"model": build(0)}, "model.*function"),
    "no model": ({"model": None}, "model=None"),
    "model with its own step": ({"model": steps}, "own `train_step`"),
    "K2: model preprocesses in fit": ({"model": preprocesses}, "own `fit`.*keras.Model"),
    "lengths": ({"train_data": (X, Y[:60])}, "x with 64.*y with 60"),
    "lengths in a dict": (
        {"train_data": ({"a": X, "b": X[:5]}, Y)},
        r"x\['a'\] with 64 examples, x\['b'\] with 5",
    ),
    "lengths of weights": ({"train_data": (X, Y, np.ones(3))}, "sample_weight with 3"),
    "empty": ({"train_data": (X[:0], Y[:0])}, "at least one"),
    "NaN": ({"train_data": (with_hole([5, 9]), Y)}, "x with NaN.* 2 examples.*index 5"),
    "infinity": ({"train_data": (with_hole(3, np.inf), Y)}, "x with.*infinity.*index 3"),
    "NaN in a dict": ({"train_data": ({"a": X, "b": with_hole(7)}, Y)}, r"x\['b'\].*index 7"),
    "NaN targets": ({"train_data": (X, Y * np.nan)}, "y with NaN"),
    "NaN test data": ({"test_data": (with_hole(0), Y)}, "test_data.*x with NaN"),
    "objects": ({"train_data": (X, WORDS)}, "y with dtype object"),
    "objects in a dict": ({"train_data": ({"a": WORDS}, Y)}, r"x\['a'\] with dtype object"),
    "strings": ({"train_data": (X, np.array(["a"] * 64))}, "y with dtype <U1"),
    "a generator": ({"train_data": ((x for x in X), Y)}, "x of generator"),
    "no targets": ({"train_data": (X,)}, r"must have targets.*\(x, y\).*loss='mse'"),
    "four parts": ({"train_data": (X, Y, Y, Y)}, "4 parts"),
    "other test shapes": ({"test_data": (X[:, :3], Y)}, r"test_data.*\(3,\)"),
    "optimizer by name": ({"optimizer": "adam"}, "optimizer='adam'"),
    "optimizer without SVAG": ({"optimizer": keras.optimizers.Adagrad(0.1)}, "SGD.*Adagrad"),
    "augment changes shapes": ({"augment": changes_shapes}, "augment.*shape"),
    "augment is no function": ({"augment": "flip"}, "augment.*flip"),
    "batch size": ({"batch_size": 0}, "batch_size=0"),
    "batch size in float": ({"batch_size": 8.0}, "batch_size=8.0"),
    "epochs": ({"epochs": float("nan")}, "epochs=nan"),
    "sampling": ({"sampling": "random"}, "'with_replacement'.*'random'"),
    "rule": ({"rule": "cubic"}, "rule='cubic'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(case, tmp_path):
    changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "study", **changes)
    assert list(tmp_path.iterdir()) == []


# What is taken.


def test_optimizer_of_the_user_is_not_changed():
    optimizer = keras.optimizers.Adam(1e-3, beta_1=0.8)
    before = optimizer.get_config()
    recipe = make(optimizer=optimizer)
    scaled = recipe.optimizer_at(16)
    assert optimizer.get_config() == before and scaled is not optimizer
    assert isinstance(scaled, keras_svag.SVAGAdam) and scaled.ell == 1
    # The square-root rule at kappa = 2: rate by sqrt(2), 1 - beta by 2.
    assert float(scaled.learning_rate) == pytest.approx(1e-3 * 2**0.5, rel=1e-6)
    assert scaled.beta_1 == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("epochs", "n", "batch_size", "steps"),
    [(30.0, 1437, 8, 5389), (30.0, 1437, 256, 168), (2.0, 1437, 128, 22), (0.1, 1437, 512, 1)],
)
def test_effective_steps(epochs, n, batch_size, steps):
    # 30 * 1437 / 8 = 5388.75, 30 * 1437 / 256 = 168.4; never fewer than one.
    x = np.ones((n, 4), "float32")
    recipe = make(train_data=(x, x[:, :1]), epochs=epochs)
    assert recipe.facts.steps_at(batch_size) == steps


def test_learning_rate_over_batch_size_is_constant_for_sgd():
    facts = make().facts
    for batch_size in (1, 8, 48, 256):
        assert facts.learning_rate_at(batch_size) / batch_size == pytest.approx(0.1 / 8)


@pytest.mark.parametrize(
    ("optimizer", "title", "plain"),
    [
        (keras.optimizers.SGD(0.1), "SGD", True),
        (keras.optimizers.SGD(0.1, momentum=0.9), "SGD with momentum", False),
        (keras.optimizers.AdamW(0.1), "AdamW", False),
        (keras_svag.SVAGRMSprop(0.1), "RMSprop", False),
    ],
)
def test_title_is_that_of_the_optimizer(optimizer, title, plain):
    facts = make(optimizer=optimizer).facts
    assert (facts.title, facts.is_plain_sgd) == (title, plain)


def test_a_schedule_covers_the_same_epochs_at_any_batch_size():
    # 16 steps at B = 8, 8 at B = 16: the drop after half of the run, and twice the rate.
    drop = keras.optimizers.schedules.PiecewiseConstantDecay([7], [0.1, 0.01])
    recipe = make(optimizer=keras.optimizers.SGD(drop))
    for batch_size, steps, rate in ((8, 16, 0.1), (16, 8, 0.2)):
        schedule = recipe.schedule_at(batch_size)
        rates = [float(schedule(step)) for step in range(steps)]
        expected = [rate] * (steps // 2) + [rate / 10] * (steps // 2)
        np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert recipe.facts.learning_rate == pytest.approx(0.1)


def test_fingerprint_is_that_of_the_numbers():
    same, other = make(train_data=(X.astype("float64"), Y)), make(train_data=(X + 1, Y))
    assert make().fingerprint() == same.fingerprint() != other.fingerprint()
    # Test data are data too.
    assert make(test_data=(X, Y)).fingerprint() != make().fingerprint()


def test_structures_of_arrays():
    recipe = make(train_data=({"a": X, "b": [Y, Y]}, {"c": Y}, np.ones(64)))
    assert recipe.num_train == 64
    assert recipe.train_data[0]["b"][1].dtype == np.float32
