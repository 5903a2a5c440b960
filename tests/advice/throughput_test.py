"""Which batch size pays: exact arithmetic, a clock that is not one, and one real measurement."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

import keras_svag
from keras_svag.advice import probe, probe_throughput, weigh_batch_sizes
from keras_svag.advice.throughput import gain
from keras_svag.callbacks import BatchSizeAdvisor

X = np.random.default_rng(0).normal(size=(48, 6)).astype("float32")
Y = X[:, :1]


def make_model(steps_per_execution=1):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dropout(0.5)])
    model.add(keras.layers.Dense(1))
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "mse", metrics=["mae"], steps_per_execution=steps_per_execution)
    return model


# Arithmetic.


def test_gain_is_that_of_adascale():
    noise, signal, base = 3.0, 0.5, 8
    for kappa in (0.5, 1, 2, 7.5, 1000):
        expected = (noise + signal) / (noise / kappa + signal)
        assert gain(kappa, base * noise / signal, base) == pytest.approx(expected)
    assert gain(16, 0.0, base) == 1  # no noise, nothing to gain
    assert gain(16, math.inf, base) == 16


def test_table_by_hand():
    # N/G = 8 at the base: 9 / (8 / kappa + 1) base steps are 1, 3 and 6.
    seconds = {8: 0.010, 32: 0.015, 128: 0.050, 512: None}
    table = weigh_batch_sizes(seconds, noise_scale=64)
    assert [row.batch_size for row in table.rows] == [8, 32, 128, 512]
    np.testing.assert_allclose([row.steps for row in table.rows[:3]], [1, 1 / 3, 1 / 6])
    np.testing.assert_allclose([row.time for row in table.rows[:3]], [1, 0.5, 5 / 6])
    np.testing.assert_allclose([row.cost for row in table.rows[:3]], [1, 0.5, 5 / 6])
    np.testing.assert_allclose(
        [row.examples_per_second for row in table.rows[:3]], [800, 32 / 0.015, 2560]
    )
    assert (table.least_time, table.least_cost, table.base_batch_size) == (32, 32, 8)
    assert table.rows[3].time is None


def test_devices_cost():
    # Twice the devices, each with 8 examples: twice the cost per second.
    seconds = {8: 0.010, 16: 0.011, 64: 0.012}
    table = weigh_batch_sizes(seconds, (8.0, 1.0), devices={8: 1, 16: 2, 64: 8})
    np.testing.assert_allclose([row.time for row in table.rows], [1, 1.1 * 5 / 9, 1.2 * 2 / 9])
    np.testing.assert_allclose([row.cost for row in table.rows], [1, 2.2 * 5 / 9, 9.6 * 2 / 9])
    # Examples processed times device seconds per example.
    for row in table.rows:
        examples = row.steps * row.batch_size / 8
        per_example = row.devices * row.step_seconds / row.batch_size / (0.010 / 8)
        assert row.cost == pytest.approx(examples * per_example)
    assert (table.least_time, table.least_cost) == (64, 8)


def test_another_base_changes_the_scale_alone():
    seconds = {8: 0.010, 32: 0.015, 128: 0.050}
    first = weigh_batch_sizes(seconds, 64)
    second = weigh_batch_sizes(seconds, 64, base_batch_size=32)
    ratios = [b.time / a.time for a, b in zip(first.rows, second.rows)]
    np.testing.assert_allclose(ratios, ratios[0])


def test_text_of_the_table():
    text = str(weigh_batch_sizes({8: 0.010, 32: 0.015, 512: None}, 64)).splitlines()
    assert text[1].split() == ["8", "1", "10", "800", "1", "1", "1"]
    assert text[3].split()[2:5] == ["does", "not", "fit"]
    assert "Least time: batch size 32; least cost: 32" in text[4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({8: None}, 64), "`step_seconds` must have a batch size that fits"),
        (({}, 64), "`step_seconds`"),
        (({8: -1.0}, 64), "`step_seconds` must be numbers > 0"),
        (({8: 1.0}, -1), "`noise_scale`"),
        (({8: 1.0}, math.nan), "`noise_scale`"),
        (({8: 1.0}, "large"), "`noise_scale`"),
        (({8: 1.0, 16: None}, 64, 16), "`base_batch_size`"),
        (({8: 1.0}, 64, None, 0), "`devices`"),
        (({8: 1.0}, 64, None, {16: 1}), "`devices`"),
    ],
)
def test_refused_numbers(arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        weigh_batch_sizes(*arguments)


# Measuring.


class Clock:
    """Time that passes in `fit` alone: 1 s a step, and 100 s more in the first epoch."""

    def __init__(self, model, size_of_step):
        self._model, self._size, self._extra = model, size_of_step, 0.0

    def __call__(self):
        steps = int(ops.convert_to_numpy(self._model.optimizer.iterations))
        return steps * self._size + (100.0 if steps else 0.0)


def test_median_of_the_steps_after_the_first(monkeypatch):
    model = make_model()
    monkeypatch.setattr(probe, "clock", Clock(model, 0.25))
    assert probe_throughput(model, (X, Y), (8, 16), steps=2, repeats=3).step_seconds == {
        8: 0.25,
        16: 0.25,
    }


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_the_model_is_as_before(steps_per_execution):
    model = make_model(steps_per_execution)
    history = model.fit(X, Y, batch_size=8, epochs=1, verbose=0)
    model.optimizer.learning_rate = 0.003
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before = [ops.convert_to_numpy(v) for v in variables]
    # More than there are examples, too.
    times = probe_throughput(model, (X, Y), (8, 64), steps=2, repeats=1)
    assert all(seconds > 0 for seconds in times.step_seconds.values())
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, variable.path)
    assert model.history is history
    model.fit(X, Y, batch_size=8, epochs=1, verbose=0)


def test_a_model_that_was_never_trained_is_as_new():
    model = make_model()
    before = model.get_weights()
    probe_throughput(model, (X, Y), (8,), steps=1, repeats=1)
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 1 byte")])
def test_out_of_memory_is_a_row(monkeypatch, error):
    get = probe._SameBatch.__getitem__

    def fail_in_the_second_step(self, index):
        if len(self._batch[0]) == 32 and index == 1:
            raise error
        return get(self, index)

    monkeypatch.setattr(probe._SameBatch, "__getitem__", fail_in_the_second_step)
    model = make_model()
    before = model.get_weights()
    times = probe_throughput(model, (X, Y), (8, 32), steps=2, repeats=1)
    assert times.step_seconds[8] > 0 and times.step_seconds[32] is None
    assert "does not fit" in str(times.weigh(64))
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    model.fit(X, Y, batch_size=8, verbose=0)


def test_other_errors_are_raised():
    model = make_model()
    with pytest.raises(Exception, match="(?i)shape|incompatible|input"):
        probe_throughput(model, (X[:, :3], Y), (8,), steps=1, repeats=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_sizes": ()}, "`batch_sizes`"),
        ({"batch_sizes": (0,)}, "`batch_sizes`"),
        ({"steps": 0}, "`steps`"),
        ({"data": X}, "`data` must be a tuple"),
        ({"data": (X[:0], Y[:0])}, "`data` must hold examples"),
        ({"model": keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])}, "`model`"),
    ],
)
def test_refused_arguments(change, message):
    arguments = {"model": make_model(), "data": (X, Y), "batch_sizes": (8,)} | change
    with pytest.raises(ValueError, match=message):
        probe_throughput(**arguments)


def test_three_lines_with_the_advisor():
    model = keras_svag.from_keras(make_model())
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    model.compile(optimizer, "mse")
    advisor = BatchSizeAdvisor(verbose=0)
    model.fit(X, Y + X[:, 1:2] ** 2, batch_size=8, epochs=4, verbose=0, callbacks=[advisor])
    times = keras_svag.probe_throughput(model, (X, Y), (8, 16), steps=2, repeats=1)
    table = times.weigh(advisor.advice)
    # Of an update, which sees two batches: half of it is that of a batch of `fit`.
    assert table.noise_scale == pytest.approx(advisor.advice.noise_scale.mean / 2)
    assert table.base_batch_size == 8 and json.dumps(table.rows[1].time)
