"""Coupled L2 and weights without decay, against Adam written in NumPy."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.config.recipe import build_network
from keras_svag.optimizers.registry import svag_version

RATE, DECAY, L2, BETA_1, BETA_2, EPSILON = 0.1, 0.5, 0.25, 0.9, 0.99, 1.0
X = np.array([[1.0, 2.0], [0.5, -1.0], [-2.0, 1.0], [3.0, 0.5]])
Y = np.array([[1.0], [0.0], [2.0], [-1.0]])
KERNEL, BIAS = np.array([[0.3], [-0.2]]), np.array([0.1])


def amplified_gradients(ell):
    """Gradients of the squared error by kernel and bias, amplified, of the interleaved halves."""
    root = np.sqrt(2 * ell - 1)
    total = [np.zeros_like(KERNEL), np.zeros_like(BIAS)]
    for half, weight in ((slice(0, None, 2), (1 + root) / 2), (slice(1, None, 2), (1 - root) / 2)):
        error = 2 * (X[half] @ KERNEL + BIAS - Y[half]) / len(X[half])
        total[0] += weight * X[half].T @ error
        total[1] += weight * error.sum(axis=0)
    return total


def adam_step(weight, gradient, ell, decay=0.0):
    """First step of Adam at the hyperparameters of the square-root rule for kappa = 1/ell."""
    rate, epsilon = RATE / np.sqrt(ell), EPSILON * np.sqrt(ell)
    beta_1, beta_2 = 1 - (1 - BETA_1) / ell, 1 - (1 - BETA_2) / ell
    weight = weight * (1 - rate * decay / np.sqrt(ell))
    rate *= np.sqrt(1 - beta_2) / (1 - beta_1)
    moment, square = (1 - beta_1) * gradient, (1 - beta_2) * gradient**2
    return weight - rate * moment / (np.sqrt(square) + epsilon)


def step(optimizer, regularized=False):
    """Kernel and bias after a step of a linear model on all four examples, and the logs."""
    inputs = keras.Input((2,))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    model.set_weights([KERNEL, BIAS])
    if regularized:
        for variable in model.trainable_variables:
            variable.regularizer = keras.regularizers.L2(L2 / 2)
    model.compile(optimizer, "mse")
    logs = model.train_on_batch(X.astype("float32"), Y.astype("float32"), return_dict=True)
    return model.get_weights(), logs


def adam(ell, **options):
    return keras_svag.SVAGAdam(
        RATE, ell=ell, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON, **options
    )


def without_bias(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_excluded_weights_do_not_decay(ell):
    kernel, bias = amplified_gradients(ell)
    weights, _ = step(without_bias(adam(ell, weight_decay=DECAY)))
    expected = [adam_step(KERNEL, kernel, ell, DECAY), adam_step(BIAS, bias, ell)]
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=2e-6)


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_coupled_l2_is_part_of_the_gradient_and_not_of_the_noise(ell):
    kernel, bias = amplified_gradients(ell)
    weights, logs = step(adam(ell), regularized=True)
    expected = [
        adam_step(KERNEL, kernel + L2 * KERNEL, ell),
        adam_step(BIAS, bias + L2 * BIAS, ell),
    ]
    for weight, value in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=2e-6)
    assert logs["gradient_noise"] == pytest.approx(step(adam(ell))[1]["gradient_noise"], rel=1e-6)


def test_l2_of_a_config_reaches_every_trained_weight():
    fields = {"name": "mlp", "norm": "none", "affine": True, "train_last_layer": True}
    network = build_network(fields, (4,), 3, 1.0, seed=0, l2=L2)
    squares = sum(np.square(w).sum() for w in network.get_weights())
    assert float(sum(network.losses)) == pytest.approx(L2 / 2 * squares, rel=1e-6)
    assert not build_network(fields, (4,), 3, 1.0, seed=0).losses


@pytest.mark.parametrize("kappa", [0.25, 4.0])
def test_copies_exclude_the_same(kappa):
    original = without_bias(keras.optimizers.AdamW(RATE, weight_decay=DECAY))
    copy = svag_version(keras_svag.scale_optimizer(original, kappa))
    # Gradients of 0 leave nothing but the decay.
    kernel, bias = (keras.Variable([1.0], name=name) for name in ("kernel", "bias"))
    copy.build([kernel, bias])
    zeros = [np.zeros(1, "float32")] * 2
    for _ in range(2):  # the second completes the pair
        copy.apply([keras.ops.convert_to_tensor(zero) for zero in zeros], [kernel, bias])
    assert float(bias.value[0]) == 1.0
    # Rate and decay grow by the square root of kappa each.
    assert float(kernel.value[0]) == pytest.approx(1 - RATE * DECAY * kappa, rel=1e-6)


def test_linear_rule_of_adam_multiplies_the_learning_rate_alone():
    optimizer = adam(1.0, weight_decay=DECAY)
    scaled = keras_svag.scale_optimizer(optimizer, 8, rule="linear").get_config()
    changed = {k for k, v in optimizer.get_config().items() if v != pytest.approx(scaled[k])}
    assert changed == {"learning_rate"}
    assert scaled["learning_rate"] == pytest.approx(8 * RATE)
