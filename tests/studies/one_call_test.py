"""Tests of keras_svag/study/check.py, on a linear problem whose stationary R is known exactly."""

import base64
import functools
import re

import keras
import numpy as np
import pytest
from scipy.linalg import hadamard

import keras_svag
from keras_svag.study import check
from keras_svag.study.check import Examples, UserProgram, check_sde

DIM, COUNT, BATCH = 32, 64, 64
# Of learning rate: effective steps, seeds, records, and the error of R to expect (see below).
CHECKS = {0.1: (1000, 5, 60, 0.12), 0.5: (300, 3, 20, 0.2)}
# Columns of a Hadamard matrix: inputs that are exactly white, targets that are orthogonal to them.
COLUMNS = hadamard(COUNT).astype("float32")
DATA = (COLUMNS[:, 1 : DIM + 1], COLUMNS[:, DIM + 1 :][:, :1])


def model_fn(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(1, use_bias=False)])


def stationary_norm(learning_rate, ell):
    """E|w|^2 of SVAG(ell) on the mean of (x w - y)^2 with batches drawn with replacement.

    With white x, |y| = 1 and E x y = 0 the gradient of a batch has the mean 2 w and
    `N = (4/B) (d (|w|^2 + 1) - |w|^2)`; `E|w|^2` stays if `4 |w|^2 = (eta/l) (4 |w|^2 + l N)`.
    """
    eta = learning_rate
    return eta * DIM / BATCH / (1 - eta / ell - eta * (DIM - 1) / BATCH)


@functools.cache
def checked(learning_rate):
    epochs, seeds, num_records, _ = CHECKS[learning_rate]
    return check_sde(
        model_fn,
        keras.optimizers.SGD(learning_rate),
        "mse",
        DATA,
        seeds=seeds,
        batch_size=BATCH,
        epochs=epochs,
        metrics=(),
        closeness=1.6,
        num_records=num_records,
        show_progress=False,
    )


@pytest.mark.parametrize("learning_rate, verdict", [(0.1, "valid"), (0.5, "invalid")])
def test_verdict_where_the_answer_is_known(learning_rate, verdict):
    result = checked(learning_rate)
    assert result.verdict == verdict
    *_, error = CHECKS[learning_rate]
    for setting in result.settings:
        # |w|^2 of 32 normal numbers is 25 % off: over 24 (8) records in the window and 5 (3) seeds
        # 2.3 % (5 %), somewhat more where records still know of each other.
        truth = stationary_norm(learning_rate, setting["ell"])
        assert setting["weight_norm"].mean == pytest.approx(truth, rel=error)
    limit = 2 * stationary_norm(learning_rate, 4) - stationary_norm(learning_rate, 2)
    ratio = stationary_norm(learning_rate, 1) / limit
    assert result.ratios["weight_norm"].ci_low < ratio < result.ratios["weight_norm"].ci_high
    assert result.scale_invariant is False
    assert {row["status"] for row in result.table} == {"done"}
    assert verdict in repr(result) and result.reason in repr(result)


def test_in_a_notebook():
    result = checked(0.1)
    page = result._repr_html_()
    images = [base64.b64decode(text) for text in re.findall(r'base64,([^"]*)"', page)]
    assert len(images) == 2 and all(image.startswith(b"\x89PNG") for image in images)
    assert "<b>valid: SGD agrees with the SDE" in page
    figure = result.plot()
    assert [axis.get_title(loc="left") for axis in figure.axes][0].startswith("R = ")
    # R of ell = 1, 2, 4 against 1/ell.
    drawn = figure.axes[0].lines[0].get_xydata()
    means = [setting["weight_norm"].mean for setting in result.settings]
    np.testing.assert_allclose(drawn, np.transpose([[1, 0.5, 0.25], means]))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(x)


def test_subclassed_model_metrics_test_data_and_a_schedule():
    def build(seed):
        keras.utils.set_random_seed(seed)
        return Subclassed()

    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.125, 0.0625])
    optimizer = keras_svag.SVAGAdam(schedule)
    examples = Examples(*DATA, *DATA)
    config = {"epochs": 8, "evaluation_size": 0, "sampling": "with_replacement"}
    losses = {"loss": "mse", "metrics": ["accuracy"]}
    program = UserProgram(config, examples, 16, build, optimizer, losses)
    assert program.total == 32
    for seed in (3, 5):
        program.start(1.0, seed)
        expected = build(seed)
        expected(DATA[0][:1])
        for a, b in zip(program.model.model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(program.learning_rates(1.0, 0, 6), [0.125] * 4 + [0.0625] * 2)
    values = program.evaluate()
    assert values["test_loss"] == pytest.approx(values["train_loss"])
    assert np.isfinite(values["test_accuracy"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"ells": (1, 2)}, r"`ells` must hold 1.*Received: ells=\[1.0, 2.0\]"),
        ({"ells": (2, 4, 8)}, "`ells` must hold 1"),
        ({"seeds": 1}, "`seeds` must be an integer >= 2"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"epochs": 0}, "`epochs` must be a number > 0"),
        ({"closeness": 1}, "`closeness` must be a number > 1"),
        ({"train_data": DATA[0]}, r"`train_data` must be a tuple \(x, y\) of arrays"),
        ({"test_data": (DATA[0], DATA[1][:3])}, "`test_data` must be two arrays with as many"),
        ({"optimizer": keras.optimizers.Adagrad(0.1)}, "`optimizer` must be one of SGD, Adam, "),
        ({"optimizer": "sgd"}, "Received: optimizer='sgd'. Pass an instance"),
        ({"num_records": 1}, "`num_records` must be so large that some records lie inside"),
        ({"sampling": "two_shuffled_streams"}, "mode"),
    ],
)
def test_what_is_refused(monkeypatch, changes, message):
    monkeypatch.setattr(check, "UserProgram", None)  # nothing is compiled before
    sgd = keras.optimizers.SGD(0.1)
    arguments = {"model_fn": model_fn, "optimizer": sgd, "loss": "mse", "train_data": DATA}
    with pytest.raises(ValueError, match=message):
        check_sde(**{**arguments, "batch_size": 8, **changes})
