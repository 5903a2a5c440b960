"""`DeviceTrainLoop` and `DeviceEvaluation`: both ways to loop, and what is done to the inputs."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop, should_fuse_steps

N, B = 13, 2
ROWS = np.random.default_rng(1).integers(N, size=(7, 2 * B))


def data(scale=1.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 6, 6, 1)).astype("float32")
    return scale * x, rng.integers(3, size=N).astype("int32")


def network(convolution=False):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(2, 3, activation="relu")(inputs) if convolution else inputs
    x = keras.layers.Dense(8, activation="tanh")(keras.layers.Flatten()(x))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(3)(x))
    model.compile(
        keras_svag.SVAG(0.3, ell=2.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
    )
    return model


def train(rows=ROWS, convolution=False, scale=1.0, params=None, **options):
    model = network(convolution)
    steps, logs = DeviceTrainLoop(model, data(scale), steps_per_call=3, **options).run(rows, params)
    return steps, logs, np.concatenate([w.ravel() for w in model.get_weights()])


def assert_same(first, second):
    # The same operations in two programs: XLA may add up in another order, 7 steps long.
    assert first[0] == second[0] == len(ROWS)
    assert first[1] == pytest.approx(second[1], rel=1e-5)
    np.testing.assert_allclose(first[2], second[2], rtol=1e-5, atol=1e-6)


def fit(model, x, y, rows):
    """The same steps through `fit`, a batch a step."""
    batches = ((x[row], y[row]) for row in rows)
    return model.fit(batches, steps_per_epoch=len(rows), verbose=0).history


@pytest.mark.parametrize("convolution", [False, True])
def test_both_loops_take_the_steps_of_fit(convolution):
    inside, outside = (train(convolution=convolution, fuse_steps=i) for i in (True, False))
    assert_same(inside, outside)
    model = network(convolution)
    history = fit(model, *data(), ROWS)
    logs = {name: values[0] for name, values in history.items()}
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    assert_same(outside, (len(ROWS), logs, weights))


def test_rule():
    assert should_fuse_steps(network())
    assert not should_fuse_steps(network(convolution=True))  # on the CPU, where tests run
    nested = keras.Sequential([keras.Input((6, 6, 1)), network(convolution=True)])
    assert not should_fuse_steps(nested)


@pytest.mark.parametrize("fuse_steps", [True, False])
def test_inputs_are_prepared_with_the_params_of_their_step(fuse_steps):
    params = np.random.default_rng(2).integers(1, 5, size=(*ROWS.shape, 1)).astype("int8")

    def prepare(x, factors):
        factors = keras.ops.cast(factors[..., None, None], x.dtype)
        return x / 4 * factors

    got = train(params=params, prepare=prepare, fuse_steps=fuse_steps, scale=4.0)
    model = network()
    x, y = data()
    batches = ((x[r] * d[..., None, None], y[r]) for r, d in zip(ROWS, params))
    history = model.fit(batches, steps_per_epoch=len(ROWS), verbose=0).history
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    assert_same(got, (len(ROWS), {k: v[0] for k, v in history.items()}, weights))


@pytest.mark.parametrize("fuse_steps", [True, False])
def test_ends_at_the_step_that_diverges(fuse_steps):
    model, (x, y) = network(), data()
    x[3] = np.nan
    rows = np.zeros((7, 2 * B), int)
    rows[4, 1] = 3
    steps, logs = DeviceTrainLoop(model, (x, y), 3, fuse_steps=fuse_steps).run(rows)
    assert steps == 5 and np.isnan(logs["loss"])


@pytest.mark.parametrize("batch_size", [5, 64])
def test_evaluation(batch_size):
    model, (x, y) = network(), data()
    evaluation = DeviceEvaluation(model, (4 * x, y), batch_size, prepare=lambda x: x / 4)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    for _ in range(2):  # the second one must not remember the first
        assert evaluation.run() == pytest.approx(expected, rel=1e-6)
