"""Tests of keras_svag/schedules.py: each schedule against its formula in NumPy."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.config.schedule import build_schedule, validate_schedule
from keras_svag.recipe.rates import tabulate
from keras_svag.schedules import (
    ScaledSchedule,
    Triangle,
    WarmUp,
    keras_schedule,
    step,
    triangle,
)

TOTAL = 40
STEPS = np.arange(TOTAL + 1)


def rates(total=TOTAL, learning_rate=0.8, **fields):
    return tabulate(build_schedule(validate_schedule(fields), learning_rate, total, TOTAL), total)


@pytest.mark.parametrize("decay_at", [(), (0.5,), (0.25, 0.5, 0.75), (0.33,)], ids=str)
def test_step(decay_at):
    # Step k covers the time from k to k + 1: the drop is at the first step that lies wholly
    # beyond the fraction, step 14 for 0.33 * 40 = 13.2.
    expected = [0.8 * 0.5 ** sum(k >= fraction * TOTAL for fraction in decay_at) for k in STEPS]
    got = rates(name="step", decay_at=decay_at, decay_factor=0.5)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_constant():
    np.testing.assert_array_equal(rates(name="constant"), np.full(TOTAL + 1, 0.8))
    assert step(0.8, TOTAL, decay_at=()) == 0.8


def test_cosine():
    got = rates(name="cosine", alpha=0.1)
    expected = 0.8 * (0.9 * (1 + np.cos(np.pi * STEPS / TOTAL)) / 2 + 0.1)
    np.testing.assert_allclose(got, expected, rtol=1e-6)  # float32


def test_triangle_by_interpolation():
    got = rates(name="triangle", heights=(1.0, 0.5), alpha=0.25)
    # Corners: foot, tip, foot of each; at the middle the second triangle has begun already.
    first = np.interp(STEPS[:20], [0, 10, 20], [0.2, 0.8, 0.2])
    second = np.interp(STEPS[20:], [20, 30, 40], [0.1, 0.4, 0.1])
    np.testing.assert_allclose(got, np.concatenate([first, second]), rtol=1e-6)
    assert float(triangle(0.8, TOTAL)(10**6)) == 0.0  # and stays at its last foot


def test_mean_of_triangles():
    # 1000 steps: the mean of a triangle of height h is h / 2, up to the foot's rounding.
    got = rates(total=1000, name="triangle", heights=[1.0, 0.5, 0.25])
    assert got[:-1].mean() == pytest.approx(0.8 * (1 + 0.5 + 0.25) / 6, rel=2e-3)


@pytest.mark.parametrize("gradual", [False, True])
def test_warm_up(gradual):
    options = {"warm_up": 0.25, "warm_up_factor": 0.1, "warm_up_gradual": gradual}
    got = rates(name="step", decay_at=(0.5,), decay_factor=0.1, **options)
    factor = np.interp(STEPS, [0, 10], [0.1, 1.0]) if gradual else np.where(STEPS < 10, 0.1, 1.0)
    expected = 0.8 * np.where(STEPS < 20, 1.0, 0.1) * factor
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_any_keras_schedule_is_rescaled_to_the_run():
    fields = {
        "name": "keras",
        "class_name": "ExponentialDecay",
        "config": {"initial_learning_rate": 1.0, "decay_steps": 10, "decay_rate": 0.5},
    }
    np.testing.assert_allclose(rates(**fields), 0.8 * 0.5 ** (STEPS / 10), rtol=1e-6)
    # At a quarter of the batch size the run has four times the steps.
    got = rates(total=4 * TOTAL, **fields)
    np.testing.assert_allclose(got, 0.8 * 0.5 ** (np.arange(161) // 4 / 10), rtol=1e-6)


def test_in_the_optimizer_schedules_see_effective_steps():
    optimizer = keras_svag.SVAG(Triangle(0.8, 8), ell=4.0)
    variable = keras.Variable(1.0)
    optimizer.build([variable])
    got = []
    for i in range(32):
        optimizer.iterations.assign(i)
        got.append(float(optimizer.learning_rate))
    expected = np.repeat(0.8 * np.array([0, 0.5, 1, 0.5, 0, 0.25, 0.5, 0.25]), 4)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        Triangle(0.8, 8, (1.0, 0.5), 0.1),
        WarmUp(0.8, 3, 0.1),
        WarmUp(Triangle(0.8, 8), 3, 0.1, gradual=True),
        ScaledSchedule(keras.optimizers.schedules.CosineDecay(1.0, 8), 0.5, 2.0),
    ],
    ids=["triangle", "warm-up", "nested", "rescaled"],
)
def test_schedules_go_through_the_config_of_an_optimizer(schedule):
    config = keras.saving.serialize_keras_object(keras_svag.SVAG(schedule))
    loaded = keras.saving.deserialize_keras_object(config)._learning_rate
    assert type(loaded) is type(schedule)
    for i in range(10):
        assert float(loaded(i)) == float(schedule(i))


def test_the_name_alone_can_be_changed():
    fields = {"decay_at": (0.5,), "decay_factor": 0.1, "heights": (1.0,), "alpha": None}
    assert validate_schedule({"name": "cosine", **fields}) == {"name": "cosine"}
    expected = {"name": "triangle", "heights": (1.0,)}
    assert validate_schedule({"name": "triangle", **fields}) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "linear"}, "`schedule.name` must be one of 'constant', .*Received: .*'linear'"),
        ({"name": "step", "drop_at": 1}, "`schedule.drop_at` is not a field of any.*Rec.*=1"),
        ({"name": "step", "decay_factor": 0.0}, "`decay_factor` must be a number > 0. Received"),
        ({"name": "step", "decay_at": (0.8, 0.5)}, "`decay_at` must be increasing .*Received"),
        ({"name": "step", "decay_at": (0.5, 1.5)}, r"`decay_at` must be .*Received: .*1.5\]"),
        ({"name": "step", "decay_at": ("a",)}, "`decay_at` must be fractions .*Received: .*'a'"),
        ({"name": "cosine", "alpha": 2.0}, r"`alpha` must be a number in \[0, 1\]. Received"),
        ({"name": "triangle", "heights": ()}, r"`heights` must not be empty. Received"),
        ({"name": "triangle", "heights": (-1.0,)}, "`heights` must be numbers > 0. Received"),
        (
            {"name": "constant", "warm_up": 1.5},
            r"`warm_up` must be a number in \[0, 1\].*Received: .*1.5",
        ),
        (
            {"name": "constant", "warm_up": 0.5, "warm_up_factor": 0},
            "`warm_up_factor` must be a number > 0. Received: warm_up_factor=0",
        ),
        ({"name": "keras"}, "`schedule` must have all fields .*class_name"),
        (
            {"name": "keras", "class_name": "NoDecay", "config": {}},
            "`schedule.class_name` must be one of CosineDecay, .*Received: class_name='NoDecay'",
        ),
        (
            {"name": "keras", "class_name": "CosineDecay", "config": {"speed": 1}},
            "`schedule.config` must hold the arguments of .*Received: config={'speed': 1}",
        ),
    ],
    ids=str,
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        validate_schedule(fields)


def test_keras_schedule_refuses_the_base_class():
    with pytest.raises(ValueError, match="`schedule.class_name` must be one of"):
        keras_schedule(0.1, 10, "LearningRateSchedule", {}, 10)
