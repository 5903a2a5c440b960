"""Tests of keras_svag/trainer/noise.py: what `fit` logs against loops over examples in NumPy."""

import keras
import numpy as np
import pytest
from scipy import stats

from keras_svag import SVAG, from_keras
from keras_svag.datasets import SampledBatches, digits
from keras_svag.models import mlp
from keras_svag.theory import RunningMeans, correct_noise, correct_signal, weight_norm_imbalance
from keras_svag.trainer.noise import (
    GradientStatistics,
    measure_by_layer,
    noise_and_signal,
    noise_and_signal_by_name,
    radial_gradient,
)
from keras_svag.xla_policy import assume_accelerator
from tests.oracles import TanhNet, flatten

INPUTS, HIDDEN, CLASSES = 12, 8, 4
EXAMPLES, BATCH_SIZE = 24, 4
PLAIN_FIT = "shuffled_epochs"


def tanh_net(regularizer=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((INPUTS,))
    hidden = keras.layers.Dense(
        HIDDEN, activation="tanh", name="hidden", kernel_regularizer=regularizer
    )(inputs)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(hidden))


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model, learning_rate=0.1):
    optimizer = SVAG(learning_rate, ell=2)
    # Operation by operation JAX is slower than it compiles; TensorFlow is not.
    jit = keras.backend.backend() == "jax"
    model.compile(optimizer, cross_entropy(), metrics=["accuracy"], jit_compile=jit)
    return model


def data(count=EXAMPLES, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, INPUTS)).astype("float32")
    return x, rng.integers(CLASSES, size=count)


SHAPES = {
    "one_kernel": [(64, 64), (64, 64), (64, 10)],
    "many_rows": [(512, 32)],
    "odd_columns": [(8, 3), (16, 33)],
    "large": [(256, 128)],
    "too_large_for_one_kernel": [(256, 264), (256, 264)],
    "rows_do_not_divide": [(12, 64), (7, 5)],
    "other_ranks": [(5,), (3, 3, 8, 16), (16, 4), ()],
    "empty": [(0, 4), (8, 0), (8, 4)],
}


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("device", [None, "gpu", "tpu"])
def test_sums_for_each_device_are_those_over_all_entries(shapes, dtype, device):
    rng = np.random.default_rng(0)
    first, second = ([rng.normal(size=s).astype(dtype) for s in shapes] for _ in range(2))
    a, b = (np.concatenate([np.float64(g).ravel() for g in half]) for half in (first, second))
    with assume_accelerator(device):
        got = noise_and_signal([None, *first], [None, *second], fold=device is None)
    # float32 sums of products that are of order 1 and cancel in the signal: their scale is |a||b|.
    scale = 1e-6 * np.linalg.norm(a) * np.linalg.norm(b)
    expected = (np.sum((a - b) ** 2) / 2, a @ b)
    for value, target in zip(got, expected):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(value, target, rtol=0, atol=scale)


# Frozen weights: the whole data set by loops, for each way of drawing from it.


def brute_force(weights, x, y):
    """Squared norm of the full gradient, and trace of the examples' covariance (divisor n)."""
    gradients = TanhNet.example_gradients(weights, np.float64(x), y)
    full = sum(gradients) / len(gradients)
    covariance = np.zeros((len(full), len(full)))
    for gradient in gradients:
        covariance += np.outer(gradient - full, gradient - full) / len(gradients)
    return full @ full, np.trace(covariance)


def targets(weights, x, y):
    """Expected N and G of each mode; S^2 is the trace with divisor n - 1."""
    signal, trace = brute_force(weights, x, y)
    n, spread = len(x), trace * len(x) / (len(x) - 1)
    return {
        "with_replacement": (trace / BATCH_SIZE, signal),
        "without_replacement": (spread / BATCH_SIZE * (1 - BATCH_SIZE / n), signal),
        PLAIN_FIT: (spread / BATCH_SIZE, signal - spread / n),
    }


EPOCHS = 60


class Shuffled(keras.utils.PyDataset):
    """What plain `fit` reads, in another order in each epoch."""

    # Not arrays: with a global seed Keras repeats one order of those in all epochs of a `fit`.
    def __init__(self, x, y, batch_size):
        super().__init__()
        self.x, self.y, self.batch_size = x, y, batch_size
        self.rng = np.random.default_rng(1)
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self):
        """Draws the order of the next epoch."""
        self.order = self.rng.permutation(len(self.x))


@pytest.fixture(scope="module")
def frozen():
    """Model, weights and, for each mode, the history of `fit` at weights that do not move."""
    x, y = data()
    model = compiled(from_keras(tanh_net()), learning_rate=1e-30)
    start = model.get_weights()
    histories = {}
    for mode in ("with_replacement", "without_replacement"):
        batches = SampledBatches(x, y, BATCH_SIZE, mode, seed=1)
        histories[mode] = model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0).history
    batches = Shuffled(x, y, 2 * BATCH_SIZE)
    histories[PLAIN_FIT] = model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0).history
    for before, after in zip(start, model.get_weights()):
        np.testing.assert_allclose(before, after, rtol=0, atol=1e-25)
    return start, x, y, histories


def distances(history, expected):
    """Of the means of N and G from `expected`, in standard errors over whole epochs."""
    columns = [np.array(history[name]) for name in ("gradient_noise", "gradient_signal")]
    return [(c.mean() - e) / stats.sem(c) for c, e in zip(columns, expected)]


MODES = ("with_replacement", "without_replacement", PLAIN_FIT)


@pytest.mark.parametrize("mode", MODES)
def test_logs_of_fit_have_the_expectation_of_their_mode(frozen, mode):
    # Weights are frozen, so epochs are independent and the standard error over them is honest.
    start, x, y, histories = frozen
    expected = targets(start, x, y)
    assert np.abs(distances(histories[mode], expected[mode])).max() < 3
    # Enough epochs to tell the modes apart.
    for other in set(MODES) - {mode}:
        assert np.abs(distances(histories[mode], expected[other])).max() > 3


@pytest.mark.parametrize("mode", MODES)
def test_corrected_logs_agree_with_the_whole_data_set(frozen, mode):
    start, x, y, histories = frozen
    signal, trace = brute_force(start, x, y)
    noise, raw_signal = (
        np.array(histories[mode][name]) for name in ("gradient_noise", "gradient_signal")
    )
    sizes = BATCH_SIZE, EXAMPLES, mode
    corrected = correct_signal(raw_signal, noise, *sizes)
    assert abs(corrected.mean() - signal) < 3 * stats.sem(corrected)
    corrected = correct_noise(noise, *sizes)
    assert abs(corrected.mean() - trace / BATCH_SIZE) < 3 * stats.sem(corrected)
    # What a user does with the history of `fit`; its standard error is like that over epochs.
    # Two estimates from 60 epochs, one with some 20 degrees of freedom, agree within
    # 4 sqrt(1/40 + 1/118).
    estimate = RunningMeans.from_rows(histories[mode]).estimate("gradient_noise")
    assert estimate.mean == pytest.approx(noise.mean())
    assert abs(estimate.standard_error / stats.sem(noise) - 1) < 4 * (1 / 40 + 1 / 118) ** 0.5


def test_arrays_in_plain_fit_are_a_shuffled_epoch():
    # Few epochs, since each needs a `fit` with a seed of its own, see `Shuffled`.
    x, y = data()
    model = compiled(from_keras(tanh_net()), learning_rate=1e-30)
    expected = targets(model.get_weights(), x, y)[PLAIN_FIT]
    rows = []
    for seed in range(16):
        keras.utils.set_random_seed(seed)
        rows.append(model.fit(x, y, batch_size=2 * BATCH_SIZE, verbose=0).history)
    history = {name: [row[name][0] for row in rows] for name in rows[0]}
    assert np.abs(distances(history, expected)).max() < 3


def test_short_last_batch_of_plain_fit():
    # 21 examples in batches of 8: halves of 4, 4 and 2 (the odd one is left out), weighed by size.
    x, y = data(21)
    model = compiled(from_keras(tanh_net()), learning_rate=1e-30)
    signal, trace = brute_force(model.get_weights(), x, y)
    spread = trace * 21 / 20
    history = model.fit(Shuffled(x, y, 8), epochs=EPOCHS, shuffle=False, verbose=0).history
    mean_size = 10 / 3
    assert np.abs(distances(history, (spread / mean_size, signal - spread / 21))).max() < 3
    means = [np.mean(history[name]) for name in ("gradient_noise", "gradient_signal")]
    corrected = correct_signal(means[1], means[0], mean_size, 21, PLAIN_FIT)
    assert abs(corrected - signal) < abs(means[1] - signal)


# Measuring changes nothing.


def random_net():
    """A net with everything that has a state: batch norm, dropout with and without a seed."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((INPUTS,))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Dense(5)(inputs))
    x = keras.layers.Dropout(0.5)(keras.layers.Dropout(0.5, seed=1)(x))
    return from_keras(keras.Model(inputs, keras.layers.Dense(CLASSES)(x)))


def test_measuring_changes_no_weight_no_statistic_and_no_random_stream():
    x, y = data()
    ends = []
    for measured in (True, False):
        model = compiled(random_net())
        model.measure_noise = measured
        history = model.fit(SampledBatches(x, y, BATCH_SIZE), epochs=2, verbose=0).history
        assert ("gradient_noise" in history) == measured
        state = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
        ends.append([*state, keras.ops.convert_to_numpy(keras.random.normal((3,)))])
    for with_it, without in zip(*ends, strict=True):
        # Seeds and counters are integers. Gradients that are measured have another use, and oneDNN
        # fuses what has one use only: 6 steps round otherwise, by some 6e-8 of values of order 1.
        exact = np.issubdtype(with_it.dtype, np.integer)
        tolerance = 0 if exact else 1e-6
        np.testing.assert_allclose(with_it, without, rtol=tolerance, atol=tolerance)
    np.testing.assert_array_equal(ends[0][-1], ends[1][-1])


def test_measuring_by_layer_leaves_everything_as_it_was():
    x, y = data()
    model = compiled(random_net())
    model.fit(SampledBatches(x, y, BATCH_SIZE), verbose=0)
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    before = [v.numpy() for v in variables]
    logs = model.get_metrics_result()
    parts = measure_by_layer(model, [(x[:8], y[:8]), (x[8:16], y[8:16])])
    assert all(len(numbers) == 2 for part in parts.values() for numbers in part.values())
    for variable, value in zip(variables, before):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    assert model.get_metrics_result() == logs


# The break-down by layer.


def test_parts_by_name_add_up_and_are_those_of_their_gradients():
    rng = np.random.default_rng(0)
    shapes = [(3, 2), (2,), (4,)]
    first, second = ([rng.normal(size=s) for s in shapes] for _ in range(2))
    parts = noise_and_signal_by_name(first, second, ["a", "a", "b"])
    assert list(parts) == ["a", "b"]
    # JAX has float32 only, unless told otherwise.
    rtol = 1e-12 if keras.backend.backend() == "tensorflow" else 1e-6
    for name, indices in (("a", [0, 1]), ("b", [2])):
        g1, g2 = (flatten([g[i] for i in indices]) for g in (first, second))
        np.testing.assert_allclose(parts[name][0], np.sum((g1 - g2) ** 2) / 2, rtol=rtol)
        np.testing.assert_allclose(parts[name][1], g1 @ g2, rtol=rtol)
    totals = np.sum([np.array(pair) for pair in parts.values()], axis=0)
    np.testing.assert_allclose(totals, noise_and_signal(first, second), rtol=rtol)


def test_parts_without_gradient_are_zero():
    parts = noise_and_signal_by_name([np.ones(2), None], [np.ones(2), None], ["a", "b"])
    assert [float(value) for value in parts["b"]] == [0.0, 0.0]


def test_names_must_fit():
    with pytest.raises(ValueError, match="`names` must have one name per gradient.*2 names"):
        noise_and_signal_by_name([np.ones(1)], [np.ones(1)], ["a", "b"])


@pytest.mark.parametrize("regularizer", [None, keras.regularizers.L2(0.3)], ids=["none", "l2"])
def test_layers_against_loops_over_examples(regularizer):
    x, y = data()
    model = compiled(from_keras(tanh_net(regularizer)))
    weights = model.get_weights()
    batches = [(x[:8], y[:8]), (x[8:20], y[8:20])]
    parts = measure_by_layer(model, batches)
    assert list(parts) == ["hidden", "logits"]
    cut = INPUTS * HIDDEN + HIDDEN  # parameters of the first layer
    for index, (bx, by) in enumerate(batches):
        gradients = TanhNet.example_gradients(weights, np.float64(bx), by)
        for part, columns in zip(parts.values(), (slice(cut), slice(cut, None))):
            g1, g2 = gradients[::2, columns].mean(axis=0), gradients[1::2, columns].mean(axis=0)
            np.testing.assert_allclose(
                part["gradient_noise"][index], np.sum((g1 - g2) ** 2) / 2, rtol=1e-4
            )
            np.testing.assert_allclose(part["gradient_signal"][index], g1 @ g2, rtol=1e-3)
    # Together they are what the train step logs, regularizers left out likewise.
    logs = model.fit(*batches[0], batch_size=8, shuffle=False, verbose=0).history
    for name in ("gradient_noise", "gradient_signal"):
        total = sum(part[name][0] for part in parts.values())
        np.testing.assert_allclose(total, logs[name], rtol=1e-4)


def test_measured_parts_go_into_running_means():
    x, y = data()
    model = compiled(from_keras(tanh_net()))
    batches = SampledBatches(x, y, BATCH_SIZE)
    parts = measure_by_layer(model, [batches[i] for i in range(len(batches))])
    means = RunningMeans.from_rows(parts["logits"])
    expected = np.mean(parts["logits"]["gradient_noise"])
    assert means.estimate("gradient_noise").mean == pytest.approx(expected)


def test_layers_need_two_halves():
    x, y = data()
    model = compiled(from_keras(tanh_net()))
    with pytest.raises(
        ValueError, match="`batches` must contain batches of 2B examples.*a batch of 7 examples"
    ):
        measure_by_layer(model, [(x[:7], y[:7])])


def test_steps_that_are_not_finite_are_left_out():
    statistics = GradientStatistics()
    for noise, signal, weight in ((4, 1, 3), (np.inf, 1, 5), (1, np.nan, 5), (0, 5, 1), (9, 9, 0)):
        statistics.update_state(float(noise), float(signal), float(weight))
    logs = {name: float(value) for name, value in statistics.result().items()}
    assert logs == {"gradient_noise": 3.0, "gradient_signal": 2.0, "noise_to_signal": 1.5}


@pytest.mark.parametrize("floatx", ["bfloat16", "float16"])
def test_noise_is_measured_where_floatx_is_narrow(floatx):
    x, y = data()
    try:
        keras.config.set_floatx(floatx)
        model = compiled(from_keras(tanh_net()), learning_rate=0.0)
        found = model.fit(x, y, batch_size=len(x), verbose=0, shuffle=False).history
    finally:
        keras.config.set_floatx("float32")
    expected = compiled(from_keras(tanh_net()), learning_rate=0.0)
    expected = expected.fit(x, y, batch_size=len(x), verbose=0, shuffle=False).history
    # Gradients of bfloat16 have 8 bits, as has the logged mean.
    for name in ("gradient_noise", "gradient_signal"):
        np.testing.assert_allclose(float(found[name][0]), float(expected[name][0]), rtol=0.05)


# Weights and gradients.


def test_radial_gradient_is_the_change_of_the_loss_under_scaling():
    x, y = data()
    weights = [w.astype("float64") for w in tanh_net().get_weights()]
    gradient = TanhNet.example_gradients(weights, np.float64(x), y).mean(axis=0)
    splits = np.cumsum([w.size for w in weights])[:-1]
    gradients = [g.reshape(w.shape) for g, w in zip(np.split(gradient, splits), weights)]
    up, down = (TanhNet.loss([w * (1 + e) for w in weights], x, y) for e in (1e-5, -1e-5))
    # Central difference: error of order 1e-10.
    expected = (up - down) / 2e-5
    np.testing.assert_allclose(radial_gradient(weights, gradients), expected, rtol=1e-7)
    assert float(radial_gradient(weights[:1], [None])) == 0.0


# The equilibrium identity, through the real train step.


@pytest.fixture(scope="module")
def scale_invariant():
    """A compiled scale-invariant net on digits; `ell` is data to its program."""
    dataset = digits()
    model = from_keras(mlp((8, 8), 10, depth=1, epsilon=1e-9, seed=0))
    model.compile(SVAG(0.5, weight_decay=0.1), cross_entropy(), jit_compile=True)
    return model, dataset, model.get_weights()


class WeightNorms(keras.callbacks.Callback):
    """R at the beginning and after each epoch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def _record(self):
        weights = [v.numpy() for v in self.model.trainable_variables]
        self.values.append(sum(np.sum(np.square(w, dtype=np.float64)) for w in weights))

    def on_train_begin(self, logs=None):
        self._record()

    def on_epoch_end(self, epoch, logs=None):
        self._record()


@pytest.mark.parametrize("ell", [1.0, 2.0, 8.0])
def test_weight_norm_is_balanced_by_noise_signal_and_decay(scale_invariant, ell):
    # Far from equilibrium and drifting: the balance holds all the same. "Epochs" of 22 steps.
    model, dataset, start = scale_invariant
    model.set_weights(start)
    model.optimizer.ell = ell
    norms = WeightNorms()
    batches = SampledBatches(dataset.train_x, dataset.train_y, 32, seed=3)
    history = model.fit(batches, epochs=16, verbose=0, callbacks=[norms]).history
    columns = norms.values, history["gradient_noise"], history["gradient_signal"], len(batches)
    balance = weight_norm_imbalance(*columns, 0.5, 0.1, ell)
    standard_error = (balance.ci_high - balance.mean) / stats.t.ppf(0.975, 15)
    assert abs(balance.mean) < 3 * standard_error
    assert standard_error < 0.05
    # Teeth: the identity of another ell, and decay left out, are refused.
    for other in {1.0, 2.0, 8.0} - {ell}:
        wrong = weight_norm_imbalance(*columns, 0.5 * other / ell, 0.1, other)
        assert wrong.ci_low > 0 or wrong.ci_high < 0
    assert weight_norm_imbalance(*columns, 0.5, 0.0, ell).ci_high < 0


def test_totals_of_replicas_add_up_to_those_of_one_device():
    """A variable is summed over replicas: steps count once, and parts of a batch add up."""
    metric = GradientStatistics()
    for noise, signal, size in ((3.0, 1.0, 2.0), (5.0, 2.0, 1.0)):
        metric.update_state(noise, signal, size, batch_size=2 * size, replicas=4)
    totals = keras.ops.convert_to_numpy(metric.totals())
    np.testing.assert_array_equal(totals, [3 * 2 + 5, 2 + 2, 2 + 1, 2 / 4, 4])


def test_mean_of_small_weights():
    metric = GradientStatistics()
    metric.update_state(3.0, 1.5, 0.25)
    logs = {name: float(value) for name, value in metric.result().items()}
    assert logs == {"gradient_noise": 3.0, "gradient_signal": 1.5, "noise_to_signal": 2.0}
