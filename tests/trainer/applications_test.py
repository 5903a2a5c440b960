"""A network of keras.applications, as it is, takes a step of SVAG."""

import keras
import numpy as np
import pytest

import keras_svag

ELL, LEARNING_RATE = 4.0, 0.5


@pytest.fixture
def network():
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, weights=None, classes=4, dropout=0.0, classifier_activation=None
    )


def take_step(model, optimizer, x, y):
    # Eagerly: tracing and compiling so many layers takes longer than the step does without.
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)
    model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0)


def gradient(model, x, y):
    """The gradient as what a step of SGD with learning rate 1 subtracts."""
    before = model.get_weights()
    take_step(model, keras.optimizers.SGD(1.0), x, y)
    start = dict(zip((w.path for w in model.weights), before))
    trained = [(start[w.path], keras.ops.convert_to_numpy(w)) for w in model.trainable_weights]
    model.set_weights(before)
    return [a - b for a, b in trained]


def test_step_of_a_mobilenet(network):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(8, 32, 32, 3)).astype("float32"), np.arange(8) % 3
    g1, g2 = gradient(network, x[0::2], y[0::2]), gradient(network, x[1::2], y[1::2])
    start = [keras.ops.convert_to_numpy(w) for w in network.trainable_weights]
    expected_logits = keras.ops.convert_to_numpy(network(x))

    model = keras_svag.from_keras(network)
    assert model.count_params() == network.count_params()
    np.testing.assert_array_equal(model(x), expected_logits)

    take_step(model, keras_svag.SVAG(LEARNING_RATE, ell=ELL), x, y)
    root = np.sqrt(2 * ELL - 1)
    r1, r2 = (1 + root) / 2, (1 - root) / 2
    for w, w0, a, b in zip(model.trainable_weights, start, g1, g2):
        step = LEARNING_RATE / ELL * (r1 * a + r2 * b)
        # A gradient read off from float32 weights errs by their rounding, 6e-8 of about 1.
        np.testing.assert_allclose(w0 - keras.ops.convert_to_numpy(w), step, atol=2e-6, rtol=1e-4)
    assert max(np.abs(a - b).max() for a, b in zip(g1, g2)) > 0.01  # the halves differ
