"""P5, P8: N and G from micro-batches, without the split train step."""

import itertools

import keras
import numpy as np
import pytest

from keras_svag.noise import GradientNoiseScale
from tests.noise.problem import IS_JAX, KERNEL, X, Y, estimates, exact, example_gradients

TABLE = example_gradients(X[:4], Y[:4])


def numbers(metric):
    return {name: float(value) for name, value in metric.result().items()}


def accumulating(count, weights, **options):
    """An optimizer that does not move the weights."""
    optimizer = keras.optimizers.SGD(0.0, gradient_accumulation_steps=count, **options)
    optimizer.build(weights)
    return optimizer


def stream(metric, optimizer, gradients, sizes, weight):
    """Hands gradients to metric and optimizer, one micro-batch after another."""
    for gradient, size in zip(gradients, sizes):
        values = [keras.ops.convert_to_tensor(np.float32(gradient))]
        metric.update_from_micro_batch(optimizer, values, size, [weight])
        optimizer.apply(values, [weight])


@pytest.mark.parametrize(
    "examples, count, streamed", [(1, 2, True), (1, 2, False), (1, 3, False), (2, 2, False)]
)
def test_p5_unbiased_over_all_micro_batches(examples, count, streamed):
    # Every draw with replacement of `count` micro-batches from three examples, once each.
    table = TABLE[:3]
    metric, weight = GradientNoiseScale(), keras.Variable(np.zeros(3, "float32"))
    optimizer = accumulating(count, [weight])
    noises, signals = [], []
    for rows in itertools.product(range(3), repeat=count * examples):
        gradients = table[np.reshape(rows, (count, examples))].mean(axis=1)
        noise, signal = estimates(gradients)
        noises.append(noise)
        signals.append(signal)
        if streamed:
            stream(metric, optimizer, gradients, [examples] * count, weight)
        else:
            metric.update_state([[np.float32(g)] for g in gradients], examples)
    noise, signal = exact(table)
    np.testing.assert_allclose([np.mean(noises), np.mean(signals)], [noise / examples, signal])
    found = numbers(metric)
    assert found["gradient_noise"] == pytest.approx(noise / examples, rel=1e-5)
    assert found["gradient_signal"] == pytest.approx(signal, rel=1e-5)
    assert found["noise_to_signal"] == pytest.approx(noise / examples / signal, rel=1e-5)
    assert found["noise_scale"] == pytest.approx(noise / signal, rel=1e-5)


@pytest.mark.parametrize("count", [2, 5])
def test_p8_one_after_another_is_all_at_once(count):
    rng = np.random.default_rng(0)
    weight = keras.Variable(np.zeros(5, "float32"))
    once, streamed = GradientNoiseScale(), GradientNoiseScale()
    optimizer = accumulating(count, [weight])
    for _ in range(2):
        # A mean far from zero: a difference of large sums of squares would lose digits.
        gradients = 100 + rng.normal(size=(count, 5))
        once.update_state([[np.float32(g)] for g in gradients], 4)
        stream(streamed, optimizer, gradients, [4] * count, weight)
    for name, value in numbers(once).items():
        rtol = 1e-4 if "signal" not in name and name != "noise_scale" else 1e-3
        assert numbers(streamed)[name] == pytest.approx(value, rel=rtol), name


def test_p8_micro_batches_of_different_size():
    # N is that of the harmonic mean b of the sizes: the variance of a mean of b is N_1 / b.
    rng, sizes, table = np.random.default_rng(1), (1, 2, 5), example_gradients()
    draws = [
        [table[rng.integers(len(table), size=b)].mean(axis=0) for b in sizes] for _ in range(3000)
    ]
    noises, signals = np.transpose([estimates(np.array(draw)) for draw in draws])
    harmonic = 3 / sum(1 / b for b in sizes)
    for values, expected in ((noises * harmonic, exact()[0]), (signals, exact()[1])):
        assert abs(values.mean() - expected) < 2 * values.std() / len(draws) ** 0.5
    once, streamed = GradientNoiseScale(), GradientNoiseScale()
    weight = keras.Variable(np.zeros(3, "float32"))
    optimizer = accumulating(3, [weight])
    for draw in draws[:5]:
        once.update_state([[np.float32(g)] for g in draw], list(sizes))
        stream(streamed, optimizer, draw, sizes, weight)
    for found in (numbers(once), numbers(streamed)):
        assert found["gradient_noise"] == pytest.approx(noises[:5].mean(), rel=1e-5)
        assert found["gradient_signal"] == pytest.approx(signals[:5].mean(), rel=1e-4)
        scale = harmonic * noises[:5].mean() / signals[:5].mean()
        assert found["noise_scale"] == pytest.approx(scale, rel=1e-4)


def test_p8_non_finite_steps_are_left_out():
    weight = keras.Variable(np.zeros(3, "float32"))
    metric, clean = GradientNoiseScale(), GradientNoiseScale()
    good = [[np.float32(g)] for g in TABLE[:2]]
    for each in (metric, clean):
        each.update_state(good, 1)
    metric.update_state([good[0], [np.full(3, np.nan, "float32")]], 1)
    assert numbers(metric) == numbers(clean)
    if IS_JAX:  # where `LossScaleOptimizer.apply` works inside of a program only
        return
    # Loss scaling skips the second gradient, and the third one takes its place.
    scaling = keras.optimizers.LossScaleOptimizer(accumulating(2, [weight]), initial_scale=4.0)
    scaling.build([weight])
    streamed = GradientNoiseScale()
    for gradient in (4 * TABLE[0], np.full(3, np.inf), 2 * TABLE[1]):
        stream(streamed, scaling, [gradient], [1], weight)
    for name, value in numbers(clean).items():
        assert numbers(streamed)[name] == pytest.approx(value, rel=1e-5)


def test_a_step_that_has_begun_survives_a_reset():
    weight = keras.Variable(np.zeros(3, "float32"))
    optimizer, metric = accumulating(2, [weight]), GradientNoiseScale()
    stream(metric, optimizer, TABLE[:3], [1] * 3, weight)
    metric.reset_state()
    stream(metric, optimizer, TABLE[3:], [1], weight)
    assert numbers(metric)["gradient_noise"] == pytest.approx(estimates(TABLE[2:])[0], rel=1e-5)
    # A metric that comes late begins with the next step.
    stream(metric, optimizer, TABLE[:1], [1], weight)
    late = GradientNoiseScale()
    stream(late, optimizer, TABLE[1:], [1] * 3, weight)
    assert numbers(late)["gradient_noise"] == pytest.approx(estimates(TABLE[2:])[0], rel=1e-5)


def test_by_layer_adds_up():
    rng = np.random.default_rng(2)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="a"), keras.layers.Dense(1, name="b")]
    )
    weights = model.trainable_weights
    metric, streamed = GradientNoiseScale(by_layer=True), GradientNoiseScale(by_layer=True)
    for each in (metric, streamed):
        each.build(weights)
    optimizer = accumulating(3, weights)
    gradients = [[rng.normal(size=w.shape).astype("float32") for w in weights] for _ in range(3)]
    metric.update_state(gradients, 4, weights)
    for gradient in gradients:
        streamed.update_from_micro_batch(optimizer, gradient, 4, weights)
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradient], weights)
    for found in (numbers(metric), numbers(streamed)):
        total = [0.0, 0.0]
        for name, part in zip(metric.layers, (slice(2), slice(2, 4)), strict=True):
            flat = np.array([np.concatenate([g.ravel() for g in gs[part]]) for gs in gradients])
            noise, signal = estimates(flat)
            assert found[f"gradient_noise/{name}"] == pytest.approx(noise, rel=1e-4)
            assert found[f"gradient_signal/{name}"] == pytest.approx(signal, abs=1e-4)
            scale = 4 * noise / signal if signal > 0 else np.inf
            assert found[f"noise_scale/{name}"] == pytest.approx(scale, rel=1e-3)
            total = np.add(total, [noise, signal])
        both = [found["gradient_noise"], found["gradient_signal"]]
        np.testing.assert_allclose(both, total, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("streamed", [False, True])
def test_regularizers_are_left_out(streamed):
    layer = keras.layers.Dense(1, use_bias=False, kernel_regularizer=keras.regularizers.L2(0.5))
    layer.build((None, 3))
    layer.kernel.assign(KERNEL)
    weights, metric = [layer.kernel], GradientNoiseScale()
    gradients = [g[:, None] + KERNEL for g in TABLE[:3]]  # with that of 0.5 |w|^2
    if streamed:
        stream(metric, accumulating(3, weights), gradients, [1] * 3, layer.kernel)
    else:
        metric.update_state([[np.float32(g)] for g in gradients], 1, weights)
    found = numbers(metric)["gradient_noise"], numbers(metric)["gradient_signal"]
    np.testing.assert_allclose(found, estimates(TABLE[:3]), rtol=1e-5)


@pytest.mark.requires_jax
def test_stateless_on_jax():
    import jax

    metric, stateful = GradientNoiseScale(), GradientNoiseScale()
    gradients = [[np.float32(g)] for g in TABLE[:3]]
    update = jax.jit(lambda values, g: metric.stateless_update_state(values, g, 2))
    values = update([v.value for v in metric.variables], gradients)
    found = metric.stateless_result(values)
    stateful.update_state(gradients, 2)
    assert {k: float(v) for k, v in found.items()} == pytest.approx(numbers(stateful), rel=1e-6)
    layer = keras.layers.Dense(1, use_bias=False, kernel_regularizer="l2")
    layer.build((None, 3))
    stale = jax.jit(lambda values, g: metric.stateless_update_state(values, g, 2, [layer.kernel]))
    with pytest.raises(ValueError, match="current values of `weights`.*StatelessScope"):
        stale(values, [[g[0][:, None]] for g in gradients])


@pytest.mark.requires_tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_inside_tf_function(jit_compile):
    import tensorflow as tf

    metric, eager = GradientNoiseScale(), GradientNoiseScale()
    gradients = [[tf.constant(g, tf.float32)] for g in TABLE[:3]]
    tf.function(metric.update_state, jit_compile=jit_compile)(gradients, 2)
    eager.update_state(gradients, 2)
    assert numbers(metric) == pytest.approx(numbers(eager), rel=1e-6)


def test_embeddings():
    # On TensorFlow their gradients have rows for the tokens that occur.
    metric, dense = GradientNoiseScale(), GradientNoiseScale()
    full = np.zeros((2, 4, 3), "float32")
    full[0, 1], full[1, 2] = TABLE[:2]
    gradients = list(full)
    if not IS_JAX:
        import tensorflow as tf

        gradients = [
            tf.IndexedSlices(tf.constant(g[[i]]), tf.constant([i]), tf.constant([4, 3]))
            for i, g in zip((1, 2), full)
        ]
    metric.update_state([[g] for g in gradients], 1)
    dense.update_state([[g] for g in full], 1)
    assert numbers(metric) == numbers(dense)


def test_wrong_arguments():
    metric = GradientNoiseScale()
    with pytest.raises(ValueError, match="at least 2 batches.*Received: 1 of them"):
        metric.update_state([[np.ones(3)]], 4)
    with pytest.raises(ValueError, match="gradient_accumulation_steps=None"):
        metric.update_from_micro_batch(keras.optimizers.SGD(), [np.ones(3)], 4)
    where = "needs TensorFlow" if IS_JAX else "Received: 1 replica"
    with pytest.raises(ValueError, match=where):
        metric.update_from_replicas([np.ones(3)], 4)
    with pytest.raises(ValueError, match="`weights` must be given with by_layer=True"):
        GradientNoiseScale(by_layer=True).update_state([[np.ones(3)]] * 2, 4)
    by_layer = GradientNoiseScale(by_layer=True)
    layers = [keras.layers.Dense(1, use_bias=False, name=name) for name in "ab"]
    for layer in layers:
        layer.build((None, 3))
    by_layer.build([layer.kernel for layer in layers])
    with pytest.raises(ValueError, match=r"Received: weights of the layers \['b'\] instead of"):
        by_layer.update_state([[np.ones((3, 1))]] * 2, 4, [layers[1].kernel])
    with pytest.raises(ValueError, match="2 gradients for 1 weights"):
        metric.update_state([[np.ones(3)] * 2] * 2, 4, [keras.Variable(np.ones(3))])
