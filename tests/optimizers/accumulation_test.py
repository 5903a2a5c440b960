"""SVAG with `gradient_accumulation_steps`: the step of batches k times as large."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import SVAG, SVAGAdamW, from_keras, svag_coefficients
from tests.backends import run_code

K, ELL = 3, 4


def gradients(count):
    return np.random.default_rng(0).normal(size=(count, 3)).astype("float32")


def steps(optimizer, batches):
    """Weights after `apply` on each batch, and the learning rate before each."""
    weight = keras.Variable(np.array([1.0, -2.0, 0.5], "float32"))
    rates = []
    for gradient in batches:
        rates.append(float(optimizer.learning_rate))
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    return weight.numpy(), rates


def test_p8_pairs_against_numpy():
    # K pairs make a step: r1 times the mean of the first batches, r2 times that of the second.
    optimizer = SVAG(0.3, ell=ELL, weight_decay=0.1, gradient_accumulation_steps=K)
    actual, _ = steps(optimizer, gradients(4 * 2 * K))
    r1, r2 = svag_coefficients(ELL)
    expected = np.array([1.0, -2.0, 0.5])
    for pairs in gradients(4 * 2 * K).astype("float64").reshape(4, K, 2, 3):
        g1, g2 = pairs.mean(0)
        expected -= 0.3 / ELL * 0.1 * expected
        expected -= 0.3 / ELL * (r1 * g1 + r2 * g2)
    assert int(optimizer.iterations) == 4
    # Sums of 3 products of order 5 in float32, in 4 steps of 0.075.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2},
        {"schedule": [3, 7]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_p8_ell_one_is_keras_with_accumulation_bit_for_bit(options):
    options = dict(options)
    rate = 0.1
    if "schedule" in options:
        # Keras counts batches, not updates, for a schedule.
        boundaries = options.pop("schedule")
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [0.1, 0.01, 0.3])
    batches = gradients(24)
    ours, our_rates = steps(SVAG(rate, gradient_accumulation_steps=K, **options), batches)
    plain = keras.optimizers.SGD(rate, gradient_accumulation_steps=K, **options)
    theirs, their_rates = steps(plain, batches[::2])
    np.testing.assert_array_equal(ours, theirs)
    assert our_rates[::2] == their_rates and (ours != [1.0, -2.0, 0.5]).all()


def test_p8_schedule_sees_the_batches_of_the_run_that_is_modeled():
    # One phase for each of its steps, ell steps of K pairs each.
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [K - 1, 2 * K - 1], [1.0, 0.1, 0.0]
    )
    optimizer = SVAG(schedule, ell=2, gradient_accumulation_steps=K)
    batches = np.ones((2 * K * 2 * 3, 3), "float32")
    weight, _ = steps(optimizer, batches)
    np.testing.assert_allclose(weight - [1.0, -2.0, 0.5], -1.1, rtol=1e-6)


def network(split):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="tanh")(inputs))
    return from_keras(model) if split else model


def fit(optimizer, batch_size, order=slice(None), split=True, **options):
    """Weights, steps and logs of `fit` on 96 examples."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(96, 3)), rng.normal(size=(96, 2))
    model = network(split)
    model.compile(optimizer, "mse", **options)
    history = model.fit(x[order], y[order], batch_size=batch_size, shuffle=False, verbose=0)
    inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    weights = np.concatenate([w.ravel() for w in model.get_weights()])
    return weights, int(inner.iterations), history.history


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda **more: SVAG(0.1, ELL, momentum=0.9, weight_decay=0.1, **more), {}),
        (lambda **more: SVAGAdamW(0.1, ELL, **more), {"steps_per_execution": 4}),
        (lambda **more: SVAG(0.1, ELL, **more), {"jit_compile": False}),
    ],
    ids=["momentum", "adamw_fused", "not_compiled"],
)
def test_p8_accumulated_batches_are_one_batch(make, options):
    # Even and odd positions of the large batch are those of its parts.
    options = {"jit_compile": True, **options}
    actual, num_steps, _ = fit(make(gradient_accumulation_steps=K), 8, **options)
    expected, same_steps, _ = fit(make(), 8 * K, jit_compile=options["jit_compile"])
    assert num_steps == same_steps == 4
    start = np.concatenate([w.ravel() for w in network(split=True).get_weights()])
    assert np.abs(actual - start).max() > 0.01
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


def test_p8_plain_model_accumulates_pairs():
    order = np.arange(96).reshape(-1, 2, 4).transpose(0, 2, 1).ravel()
    plain = fit(SVAG(0.1, ELL, gradient_accumulation_steps=K), 4, split=False, jit_compile=False)
    split = fit(SVAG(0.1, ELL), 8 * K, order=order, jit_compile=False)
    assert plain[1] == split[1] == 4
    np.testing.assert_allclose(plain[0], split[0], rtol=0, atol=1e-6)


def test_p8_loss_scaling_around_accumulation():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        actual = fit(SVAG(0.1, ELL, gradient_accumulation_steps=K), 8, jit_compile=True)
        expected = fit(SVAG(0.1, ELL), 8 * K, jit_compile=True)
    finally:
        keras.config.set_dtype_policy("float32")
    assert actual[1] == expected[1] == 4
    # Gradients of order 1 keep 11 bits; halves weigh up to 1.8, in 4 steps of 0.025.
    np.testing.assert_allclose(actual[0], expected[0], rtol=0, atol=4 * 0.025 * 2 * 2.0**-11)


def test_p8_logged_noise_is_that_of_one_batch():
    # N of a step is N / K of the log, N of the large batch; both estimates of one expectation, from
    # 12 x 12 and 4 x 12 independent products of residuals and inputs: within a third.
    logs = [
        fit(SVAG(1e-6, ELL, gradient_accumulation_steps=K), 8, jit_compile=True)[2],
        fit(SVAG(1e-6, ELL), 8 * K, jit_compile=True)[2],
    ]
    ratio = logs[0]["gradient_noise"][0] / logs[1]["gradient_noise"][0]
    assert ratio == pytest.approx(K, rel=1 / 3)


REPLICAS = """
import keras, numpy as np, tensorflow as tf
import keras_svag
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    inputs = keras.Input((3,))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras_svag.SVAG(0.1, gradient_accumulation_steps=2), "mse", jit_compile=False)
try:
    model.fit(np.ones((8, 3)), np.ones((8, 1)), batch_size=4, verbose=0)
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.requires_tensorflow
def test_p8_replicas_of_tensorflow_do_not_accumulate():
    # Keras fails there too, with a RuntimeError about merge_call.
    said = run_code(REPLICAS, backend="tensorflow")
    assert "`gradient_accumulation_steps` cannot be used" in said and "steps=2. Use" in said


def test_p8_studies_do_not_accumulate():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="must not accumulate.*Received.*Multiply batch_size"):
        keras_svag.Recipe(
            model=lambda seed: network(split=False),
            train_data=(np.ones((8, 3)), np.ones((8, 2))),
            optimizer=optimizer,
            loss="mse",
            batch_size=2,
            epochs=1,
        )
