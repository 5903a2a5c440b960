"""Exact means, covariances and moments of SVAG, through the real train step."""

import itertools
import math

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import SVAG
from tests.oracles import TanhNet, flatten, linear_svag_moments


def tanh_net(seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize("decay", [None, 0.02], ids=["no_decay", "decay"])
@pytest.mark.parametrize("jit", [False, True], ids=["op_by_op", "xla"])
def test_ell_one_is_sgd_on_the_even_positions(jit, decay):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50 * 16, 3)).astype("float32")
    y = rng.integers(2, size=50 * 16)
    sgd = tanh_net()
    sgd.compile(keras.optimizers.SGD(0.1, weight_decay=decay), cross_entropy(), jit_compile=jit)
    sgd.fit(x[::2], y[::2], batch_size=8, shuffle=False, verbose=0)
    svag = keras_svag.from_keras(tanh_net())
    svag.compile(SVAG(0.1, ell=1, weight_decay=decay), cross_entropy(), jit_compile=jit)
    svag.fit(x, y, batch_size=16, shuffle=False, verbose=0)
    assert int(svag.optimizer.iterations) == 50
    for a, b in zip(sgd.get_weights(), svag.get_weights()):
        if jit:
            # XLA may order sums otherwise in another program: float32 rounding.
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)
    assert np.abs(flatten(tanh_net().get_weights()) - flatten(svag.get_weights())).max() > 0.1


@pytest.mark.parametrize("ell", [0.5, 1.0, 2.0, 7.5, 64.0])
def test_mean_and_covariance_over_all_pairs_of_batches(ell):
    # Six examples, batches of two without repetition: 15 batches, 225 pairs. The full gradient is
    # the mean over batches, and by definition the covariance of the amplified gradient over pairs
    # must be ell times the covariance over batches.
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(6, 3)).astype("float32"), rng.integers(2, size=6)
    model = keras_svag.from_keras(tanh_net())
    # Learning rate ell makes the step -g. Jit: one program for all ell would serve as well.
    model.compile(SVAG(float(ell), ell=ell), cross_entropy(), jit_compile=True)
    start = model.get_weights()
    batches = list(itertools.combinations(range(6), 2))
    steps = []
    for first, second in itertools.product(batches, repeat=2):
        model.set_weights(start)
        rows = np.array([first, second]).T.ravel()  # even positions are the first half
        model.train_on_batch(x[rows], y[rows])
        steps.append(flatten(start) - flatten(model.get_weights()))
    steps = np.array(steps)

    per_example = TanhNet.example_gradients(start, np.float64(x), y)
    per_batch = np.array([per_example[list(batch)].mean(axis=0) for batch in batches])
    full = per_example.mean(axis=0)
    covariance = np.cov(per_batch.T, bias=True)
    np.testing.assert_allclose(steps.mean(axis=0), full, rtol=0, atol=1e-5 * np.linalg.norm(full))
    actual = np.cov(steps.T, bias=True)
    error = np.linalg.norm(actual - ell * covariance) / np.linalg.norm(ell * covariance)
    assert error < 1e-5


def test_loss_that_is_linear_in_the_outputs():
    # Gradients of such a loss do not need the outputs. Without XLA, TensorFlow then gave one model
    # in five a program that updates gamma before the forward pass reads it, in nearly all steps.
    x, y = np.random.default_rng(0).normal(size=(2, 12, 16)).astype("float32")
    inputs = keras.Input((16,))
    dense, norm = keras.layers.Dense(16), keras.layers.GroupNormalization(8)
    outputs = norm(dense(inputs))
    start = np.random.default_rng(1).normal(size=(19, 16))
    start = [start[:16], *start[16:]]

    def end(**options):
        model = keras_svag.SVAGModel(inputs, outputs, measure_noise=False)
        model.compile(SVAG(1.0, ell=2), lambda y, out: keras.ops.sum(y * out), **options)
        model.set_weights(start)
        model.train_on_batch(x, y)
        return model.get_weights()

    expected = end(run_eagerly=True)
    for _ in range(16):
        for actual, weight, first in zip(end(jit_compile=False), expected, start):
            # Sums of 12 products in another order, of order 10 and rounded by 6e-8 each.
            np.testing.assert_allclose(actual, weight, rtol=0, atol=1e-4)
            assert np.abs(weight - first).max() > 1


class Chains(keras.layers.Layer):
    """Independent scalar problems side by side: weight c has the loss a x_c^2 / 2 + b x_c."""

    def __init__(self, count, start):
        super().__init__()
        self.x = self.add_weight(
            shape=(count,), initializer=keras.initializers.Constant(start), name="x"
        )

    def call(self, coefficients):
        """Losses of shape `(batch, chains)` from (a, b) of shape `(batch, chains, 2)`."""
        return coefficients[..., 0] * self.x**2 / 2 + coefficients[..., 1] * self.x


TABLE = np.array([[0.5, 1.0], [1.5, -1.0], [1.0, 0.5], [2.0, 0.2]])


def largest_score(samples, moments):
    """Largest deviation of sample moments from exact ones, in standard errors."""
    scores = []
    for step, x in samples.items():
        for power in (1, 2):
            standard_error = np.std(x**power) / math.sqrt(len(x))
            scores.append(abs(np.mean(x**power) - moments[step, power - 1]) / standard_error)
    return max(scores)


@pytest.mark.parametrize("ell", [1, 2, 4, 8, 16])
def test_moments_of_the_linear_problem(ell):
    # 20,000 chains are one weight vector; each has its own example indices, so that they are
    # independent draws of one process, with standard errors known from the sample itself. Checked
    # at four times: 5 ells, 4 times and 2 moments give a chance of 40 * 6e-5 = 0.3 % to fail by
    # luck under another seed.
    chains, eta, horizon, x0 = 20_000, 0.5, 8, 1.5
    inputs = keras.Input((chains, 2))
    layer = Chains(chains, x0)
    model = keras_svag.SVAGModel(inputs, layer(inputs))
    model.compile(
        SVAG(eta, ell=ell),
        # Sum over chains: each has the gradient of its own loss.
        loss=lambda y, losses: keras.ops.sum(losses, axis=-1),
        jit_compile=True,
    )
    rng = np.random.default_rng(100 + ell)
    samples = {}
    for step in range(1, horizon * ell + 1):
        rows = rng.integers(len(TABLE), size=(2, chains))
        model.train_on_batch(TABLE[rows].astype("float32"), np.zeros((2, 1)))
        if step % (horizon * ell // 4) == 0:
            samples[step] = layer.x.numpy().astype(np.float64)
    exact = linear_svag_moments(*TABLE.T, eta, ell, x0, horizon * ell)
    assert largest_score(samples, exact) < 4
    if ell <= 4:
        # The test can fail: twice the amplification at the same step is told apart.
        h = eta / ell
        other = linear_svag_moments(*TABLE.T, h * 2 * ell, 2 * ell, x0, horizon * ell)
        assert largest_score(samples, other) > 8
