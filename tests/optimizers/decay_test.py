"""Steps with weight decay of some weights only, and with coupled L2, against NumPy."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.optimizers import svag_version

RATE, BETAS, EPSILON, DECAY, L2 = 0.05, (0.9, 0.99), 1e-3, 0.3, 0.2
BATCH_SIZE, STEPS = 4, 3
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(STEPS, 2 * BATCH_SIZE, 3)), rng.normal(size=(STEPS, 2 * BATCH_SIZE, 1))
KERNEL, BIAS = rng.normal(size=(3, 1)), np.array([0.7])


def oracle(ell, decay=0.0, excluded=(), l2=0.0):
    """Weights, N and G of Adam on the mean of `(x w + b - y)^2`, in float64."""
    weights = {"kernel": KERNEL.copy(), "bias": BIAS.copy()}
    first, second = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    root = np.sqrt(ell)
    beta_1, beta_2 = (1 - (1 - beta) / ell for beta in BETAS)
    noises, signals = [], []
    for t, (x, y) in enumerate(zip(X, Y), 1):
        halves = []
        for part in (slice(0, None, 2), slice(1, None, 2)):  # even and odd positions
            error = x[part] @ weights["kernel"] + weights["bias"] - y[part]
            halves.append({"kernel": x[part].T @ error, "bias": error.sum(0)})
            halves[-1] = {name: 2 * g / BATCH_SIZE for name, g in halves[-1].items()}
        g1, g2 = halves
        noises.append(sum(((g1[n] - g2[n]) ** 2).sum() for n in g1) / 2)
        signals.append(sum((g1[n] * g2[n]).sum() for n in g1))
        s = np.sqrt(2 * ell - 1)
        for name, weight in weights.items():
            gradient = (1 + s) / 2 * g1[name] + (1 - s) / 2 * g2[name]
            gradient = gradient + l2 * weight
            if name not in excluded:
                weight = weight - RATE / root * decay / root * weight
            first[name] = beta_1 * first[name] + (1 - beta_1) * gradient
            second[name] = beta_2 * second[name] + (1 - beta_2) * gradient**2
            rate = RATE / root * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            step = rate * first[name] / (np.sqrt(second[name]) + EPSILON * root)
            weights[name] = weight - step
    return weights, np.mean(noises), np.mean(signals)


def trained(optimizer, l2=0.0):
    """Weights of an `SVAGModel` after the same steps, and its N and G."""
    regularizer = keras.regularizers.L2(l2 / 2) if l2 else None
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(1, kernel_regularizer=regularizer, bias_regularizer=regularizer)
    model = keras_svag.SVAGModel(inputs, dense(inputs))
    dense.set_weights([KERNEL, BIAS])
    model.compile(optimizer, loss="mse", run_eagerly=True)
    # Batches in order: one epoch is the three steps.
    data = {"x": X.reshape(-1, 3), "y": Y.reshape(-1, 1)}
    history = model.fit(**data, batch_size=2 * BATCH_SIZE, shuffle=False, verbose=0).history
    kernel, bias = dense.get_weights()
    logs = (history["gradient_noise"][0], history["gradient_signal"][0])
    return {"kernel": kernel, "bias": bias}, *logs


def adam(cls, ell, decay):
    return cls(RATE, ell=ell, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON, weight_decay=decay)


def assert_equal(got, expected):
    (weights, *moments), (wanted, *wanted_moments) = got, expected
    for name in weights:
        # Steps of size 0.05 in float32, amplified gradients up to 10: errors of some 1e-6.
        np.testing.assert_allclose(weights[name], wanted[name], rtol=0, atol=5e-6, err_msg=name)
    np.testing.assert_allclose(moments, wanted_moments, rtol=2e-5)


@pytest.mark.parametrize("ell", [1, 4])
@pytest.mark.parametrize("cls", [keras_svag.SVAGAdam, keras_svag.SVAGAdamW])
def test_excluded_weights_do_not_decay(cls, ell):
    optimizer = adam(cls, ell, DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    expected = oracle(ell, DECAY, excluded=("bias",))
    assert_equal(trained(optimizer), expected)
    # The test would see a bias that decays.
    decayed = oracle(ell, DECAY)[0]["bias"]
    assert abs(decayed - expected[0]["bias"]).item() > 1e-3


@pytest.mark.parametrize("ell", [1, 4])
def test_coupled_l2_is_in_the_step_but_not_in_noise_and_signal(ell):
    expected = oracle(ell, l2=L2)
    assert_equal(trained(adam(keras_svag.SVAGAdam, ell, None), L2), expected)
    assert abs(oracle(ell)[0]["bias"] - expected[0]["bias"]).item() > 1e-3


def decays(optimizer):
    """Names of weights that a step without gradient makes smaller."""
    weights = [keras.Variable(np.ones(2), name=name) for name in ("kernel", "bias", "gamma")]
    combined = getattr(optimizer, "combined", None)
    with combined() if combined else keras.name_scope("plain"):
        optimizer.apply([keras.ops.zeros(2) for _ in weights], weights)
    return {weight.name for weight in weights if (weight.numpy() < 1).all()}


COPIES = {
    "svag_version": svag_version,
    "scale_optimizer": lambda optimizer: keras_svag.scale_optimizer(optimizer, 2),
    "of a scaled one": lambda optimizer: svag_version(keras_svag.scale_optimizer(optimizer, 2)),
}


@pytest.mark.parametrize("make_copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("cls", [keras.optimizers.SGD, keras.optimizers.AdamW])
def test_copies_exclude_the_same(cls, make_copy):
    rate = keras.optimizers.schedules.CosineDecay(0.1, 100)
    optimizer = cls(rate, weight_decay=0.5)
    assert decays(make_copy(optimizer)) == {"kernel", "bias", "gamma"}
    optimizer.exclude_from_weight_decay(var_names=["bias", "gam"])
    assert decays(make_copy(optimizer)) == {"kernel"}
    assert decays(optimizer) == {"kernel"}


def test_a_scaled_optimizer_of_the_same_model_excludes_the_same_variables():
    weights = [keras.Variable(np.ones(2), name="kernel") for _ in range(2)]
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=weights[:1])
    scaled = keras_svag.scale_optimizer(optimizer, 2)
    scaled.apply([keras.ops.zeros(2)] * 2, weights)
    assert (weights[0].numpy() == 1).all() and (weights[1].numpy() < 1).all()
