"""Tests of keras_svag/datasets/uniform.py: the numbers, and functions of them, on both backends."""

import itertools
import pickle

import keras
import numpy as np
import pytest
import scipy.stats
from keras import ops

from keras_svag.datasets import PadCropFlip, SampledBatches, Sampler, UniformAugmentation
from keras_svag.datasets.uniform import as_augmentation, check_augmentation

STEPS, LENGTH, COUNT = 2000, 8, 3


def shift(x, u):
    """Moves each example by its first number."""
    return x + u[:, :1]


def shift_one(x, u):
    """Of a dict: one array moved, the other as it was."""
    return {"moved": x["moved"] + 2 * u[:, 1:3], "kept": x["kept"]}


def two_inputs(count=6):
    moved = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    return {"moved": moved, "kept": np.arange(count, dtype=np.int32)}


@pytest.fixture(scope="module")
def numbers():
    return UniformAugmentation(shift, COUNT).draw(seed=3, start=0, stop=STEPS, length=LENGTH)


# The numbers.


def test_numbers_are_uniform(numbers):
    assert numbers.shape == (STEPS, LENGTH, COUNT) and numbers.dtype == np.float32
    whole = numbers.astype(np.float64) * 2**24
    np.testing.assert_array_equal(whole, np.round(whole))
    assert whole.min() >= 0 and whole.max() < 2**24
    # Every number of every place by itself: E u = 1/2, E u^2 = 1/3, variances 1/12 and 4/45. The
    # largest of 48 deviations in standard errors is below 4.5 with probability 0.9997.
    for power, mean, variance in ((1, 1 / 2, 1 / 12), (2, 1 / 3, 4 / 45)):
        means = (numbers.astype(np.float64) ** power).mean(axis=0)
        assert np.abs(means - mean).max() < 4.5 * np.sqrt(variance / STEPS)
    cells = np.bincount((numbers.ravel() * 64).astype(int), minlength=64)
    assert scipy.stats.chisquare(cells).pvalue > 1e-3


def test_numbers_are_independent(numbers):
    # Of one place, of two places, of one step and the next. For independent u, v: E uv = 1/4 with
    # variance 1/9 - 1/16 = 7/144.
    u = numbers.astype(np.float64)
    columns = u.reshape(STEPS, -1).T
    products = [(a * b).mean() for a, b in itertools.combinations(columns, 2)]
    products += [(a[1:] * b[:-1]).mean() for a, b in itertools.product(columns, columns)]
    # 852 of them: the largest is below 5 standard errors with probability 0.9995.
    assert np.abs(np.array(products) - 1 / 4).max() < 5 * np.sqrt(7 / 144 / (STEPS - 1))


def test_numbers_are_independent_of_rows_and_crops_of_the_same_seed(numbers):
    rows = Sampler(9, LENGTH // 2, seed=3).rows(0, STEPS)
    crops = PadCropFlip().draw(seed=3, start=0, stop=STEPS, length=LENGTH)[..., 0]
    # Both are uniform on 0 to 8 here: with one in nine of u, 81 equally likely cells.
    ninths = (numbers[..., 0] * 9).astype(int)
    for other in (rows, crops):
        cells = np.bincount((9 * ninths + other).ravel(), minlength=81)
        assert scipy.stats.chisquare(cells).pvalue > 1e-3


def test_numbers_depend_on_seed_step_and_place_alone(numbers):
    augmentation = UniformAugmentation(shift, COUNT)
    for start, stop, length in ((30, 40, 8), (7, 8, 3), (0, 5, 1), (9, 9, 4)):
        got = augmentation.draw(3, start, stop, length)
        assert got.shape == (stop - start, length, COUNT)
        np.testing.assert_array_equal(got, numbers[start:stop, :length])
    longer = augmentation.draw(3, 0, 10, 100)
    np.testing.assert_array_equal(longer[:, :LENGTH], numbers[:10])


def test_seeds_and_steps_give_other_numbers():
    augmentation = UniformAugmentation(shift)
    params = [augmentation.draw(seed, 0, 20, 5) for seed in (0, 1, 2**63, 2**64 - 1)]
    assert params[0].shape == (20, 5, 4)  # four unless told otherwise
    # 1,600 of 2^24: some pairs may be equal by chance (0.08 on average), but never many.
    assert len(np.unique(params)) > 1590


@pytest.mark.parametrize(
    "arguments", [(-1, 0, 1, 2), (0, -1, 1, 2), (0, 2, 1, 2), (0, 0, 1, 0), (0, 0, 1, 2.5)]
)
def test_wrong_arguments_of_draw(arguments):
    with pytest.raises(ValueError, match="must be an integer >="):
        UniformAugmentation(shift).draw(*arguments)


# Functions of them.


def test_numpy_in_numpy_out():
    augmentation, x = UniformAugmentation(shift_one, 3), two_inputs()
    u = augmentation.draw(0, 0, 1, 6)[0]
    got = augmentation.apply(x, u)
    assert all(type(array) is np.ndarray for array in got.values())
    np.testing.assert_array_equal(got["moved"], x["moved"] + 2 * u[:, 1:])
    np.testing.assert_array_equal(got["kept"], x["kept"])
    # Also where the function makes tensors of them.
    doubled = UniformAugmentation(lambda x, u: ops.multiply(x, 2)).apply(x["moved"], u)
    assert type(doubled) is np.ndarray
    np.testing.assert_array_equal(doubled, 2 * x["moved"])


class Augmented(keras.Model):
    """Gives what an augmentation makes of its inputs."""

    def __init__(self, augmentation):
        super().__init__()
        self.augmentation = augmentation

    def call(self, inputs):
        x, u = inputs
        return self.augmentation.apply(x, u)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_compiled_equals_numpy(jit_compile):
    augmentation, x = UniformAugmentation(shift_one, 3), two_inputs()
    u = augmentation.draw(0, 0, 1, 6)[0]
    model = Augmented(augmentation)
    model.compile(jit_compile=jit_compile)
    got = model.predict_on_batch((x, u))
    for name, expected in augmentation.apply(x, u).items():
        # A product and a sum of numbers below 16: they may be fused, which saves one rounding.
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=16 * 2**-23)


def test_batches_of_structures_are_augmented_by_seed_and_step():
    x, y = two_inputs(20), np.arange(20)
    batches = SampledBatches(x, y, 3, seed=4, initial_epoch=2, augmentation=shift_one)
    step = 2 * len(batches) + 1
    rows = Sampler(20, 3, seed=4).rows(step, step + 1)[0]
    u = UniformAugmentation(shift_one).draw(seed=4, start=step, stop=step + 1, length=6)[0]
    inputs, targets = batches[1]
    np.testing.assert_array_equal(targets, rows)
    np.testing.assert_array_equal(inputs["moved"], x["moved"][rows] + 2 * u[:, 1:3])
    np.testing.assert_array_equal(inputs["kept"], rows)
    copy = pickle.loads(pickle.dumps(batches))  # for worker processes
    np.testing.assert_array_equal(copy[1][0]["moved"], inputs["moved"])


def test_fit_sees_augmented_batches():
    # Prediction w x from w = 0, target 1, squared loss, learning rate 1/2: w is the mean of x after
    # one step, and x is 1 + u.
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=True)
    x = np.ones((16, 1), np.float32)
    # A step that changes nothing, as Keras on JAX reads an epoch's batch to build a new model.
    model.train_on_batch(0 * x, 0 * x)
    batches = SampledBatches(x, x, 8, seed=1, augmentation=shift)
    model.fit(batches, shuffle=False, verbose=0)
    u = UniformAugmentation(shift).draw(seed=1, start=0, stop=1, length=16)[0]
    np.testing.assert_allclose(model.get_weights()[0], 1 + u[:, :1].mean(keepdims=True), rtol=1e-5)


# What is refused.


def test_what_is_meant_by_an_argument():
    crop = PadCropFlip()
    assert as_augmentation(None) is None and as_augmentation(crop) is crop
    assert as_augmentation(shift) == UniformAugmentation(shift)
    assert as_augmentation(shift, 2).num_uniforms == 2
    for wrong in ("shift", 3, PadCropFlip, (shift,)):
        with pytest.raises(ValueError, match="`augment` must be a function of a batch.*Received:"):
            as_augmentation(wrong)
    with pytest.raises(ValueError, match="`num_uniforms` must be an integer >= 1"):
        as_augmentation(shift, 0)
    with pytest.raises(ValueError, match="`function` must be a function"):
        UniformAugmentation("shift")


def test_check_accepts_what_can_be_used():
    check_augmentation(as_augmentation(shift_one), two_inputs())
    check_augmentation(as_augmentation(shift), np.ones((3, 2)))  # float64 becomes what `fit` makes
    check_augmentation(PadCropFlip(), np.zeros((3, 8, 8, 1), np.uint8))
    check_augmentation(as_augmentation(lambda x, u: ops.cast(x, "int32")), np.ones((3, 2), "uint8"))
    check_augmentation(as_augmentation(shift, num_uniforms=1), np.ones((1, 5), np.float32))


calls = itertools.count()
FLOATS = np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    ("augment", "x", "message"),
    [
        (lambda x, u: [x], FLOATS, "must keep the structure of the inputs"),
        (lambda x, u: x["moved"], two_inputs(), "must keep the structure of the inputs"),
        (lambda x, u: None, FLOATS, "Received: None"),
        (lambda x, u: x[:2], FLOATS, r"of numbers of the inputs. Rec.*\(2, 2\) for .*\(3, 2\)"),
        (
            lambda x, u: ops.cast(x, u.dtype),
            np.ones((3, 2), np.uint8),
            "floats of .* for integers of",
        ),
        (lambda x, u: ops.cast(x, "int32"), FLOATS, "integers of .* for floats of"),
        (lambda x, u: x / ops.cast(u[:, :2] < 0, x.dtype), FLOATS, "must return finite numbers"),
        (lambda x, u: x + next(calls), FLOATS, "must be a pure function"),
        (lambda x, u: x + np.random.rand(), FLOATS, "must be a pure function"),
        (lambda x, u: np.sin(np.asarray(x)), FLOATS, "can be compiled: use keras.ops"),
        (lambda x: x, FLOATS, "Received: TypeError"),
        (
            lambda x, u: {**x, "moved": x["moved"][:, :1]},
            two_inputs(),
            "array 1 of the inputs",  # sorted by name, as Keras does
        ),
    ],
)
def test_check_refuses_and_says_what_is_wrong(augment, x, message):
    with pytest.raises(ValueError, match=f"`augment` .*{message}"):
        check_augmentation(as_augmentation(augment), x)
