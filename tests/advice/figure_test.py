"""Tests of keras_svag/advice/figure.py: what `advisor.plot()` shows."""

import io

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.callbacks import BatchSizeAdvisor


@pytest.fixture(scope="module")
def advisor():
    """The callback after 12 epochs under a cosine schedule."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)).astype("float32")
    y = x @ np.array([[1.0], [-1.0], [2.0]]) + rng.normal(size=(200, 1))
    model = keras_svag.SVAGSequential([keras.Input((3,)), keras.layers.Dense(1)])
    schedule = keras.optimizers.schedules.CosineDecay(0.02, 12 * 50)
    model.compile(keras.optimizers.SGD(schedule), loss="mse")
    callback = BatchSizeAdvisor(verbose=0)
    model.fit(x, y, batch_size=4, epochs=12, verbose=0, callbacks=[callback])
    return callback


def test_p6_figure_shows_noise_scale_bound_and_schedule(advisor):
    figure = advisor.plot()
    noise, bound, rate = figure.axes
    known = [advice for advice in advisor.history if advice.is_known]
    assert len(known) >= 6
    steps = [advice.steps[1] for advice in known if np.isfinite(advice.noise_scale.mean)]
    np.testing.assert_array_equal(noise.lines[0].get_xdata(), steps)
    expected = [a.max_kappa["tight"].mean for a in known if np.isfinite(a.noise_scale.mean)]
    np.testing.assert_allclose(bound.lines[0].get_ydata(), expected)
    drawn = rate.lines[0].get_ydata()
    wanted = [0.01 * (1 + np.cos(np.pi * s / 600)) for s in rate.lines[0].get_xdata()]
    np.testing.assert_allclose(drawn, wanted, atol=1e-6)
    # All estimates are inside.
    for axes in (noise, bound):
        assert axes.get_ylim()[1] > axes.lines[0].get_ydata().max()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert len(buffer.getvalue()) > 10_000


def test_figure_of_a_run_without_advice():
    figure = BatchSizeAdvisor().plot()
    assert [len(axes.lines) for axes in figure.axes] == [0, 0, 1]


@pytest.mark.parametrize(("size", "width"), [("paper", 4.5), ("paper_column", 3.3), ("talk", 8.0)])
def test_sizes(size, width):
    figure = BatchSizeAdvisor().plot(size)
    assert figure.get_figwidth() == pytest.approx(width)


def test_unknown_size():
    with pytest.raises(ValueError, match="`size` must be one of .* Received: size='poster'"):
        BatchSizeAdvisor().plot("poster")
