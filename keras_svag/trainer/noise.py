"""Gradient noise N and signal G from the two gradients of an SVAG step.

For independent batches of size B, `N = |g1 - g2|^2 / 2` estimates the trace of the covariance of
the mini-batch gradient and `G = <g1, g2>` the squared norm of the full gradient, both without bias
(Li, Malladi, Arora 2021, section 5).
"""

import math

import keras
import numpy as np
from keras import ops

from keras_svag import _keras
from keras_svag.trainer.structures import first_leaf, map_arrays, split_batch
from keras_svag.xla_policy import accelerator

# Parts of a matrix that are added up before its entries are summed, which XLA does sequentially.
NUM_FOLDS = 8
# On a CPU XLA computes sums over longer axes in two kernels.
XLA_WINDOW = 32
# Matrices of one shape with at most this many entries are summed in one kernel, which needs all of
# them in memory.
MAX_GROUPED_SIZE = 2**16
# Gradients of each half that XLA still reads in the kernel that sums them, on a GPU.
MAX_JOINED = 40

NUM_TOTALS = 5  # of `GradientStatistics`
METRIC_NAMES = ("gradient_noise", "gradient_signal", "noise_to_signal")


def noise_and_signal(first, second, fold=False):
    """Returns unbiased estimates of `(N, G)` from the gradient lists of two batches of one size."""
    # On a CPU, tensors with the same key are added first, and summed over all axes but the last:
    # XLA vectorizes such sums, but not the sum to a scalar. On a TPU it adds the latter to the
    # kernels that update the weights; on a GPU each is a kernel, unless small ones are joined.
    # `fold` gives fewer and faster kernels under XLA on a CPU, but more operations without it.
    noise, signal = {}, {}
    folded_noise, folded_signal = {}, {}
    pairs = [(g1, g2) for g1, g2 in zip(first, second) if g1 is not None and g2 is not None]
    device = accelerator()
    if device == "gpu":
        pairs = _join_small(pairs)
    for i, (g1, g2) in enumerate(pairs):
        dtype = keras.backend.result_type(g1.dtype, "float32")
        g1, g2 = ops.cast(g1, dtype), ops.cast(g2, dtype)
        if fold and len(g1.shape) == 2 and g1.shape[0] % NUM_FOLDS == 0:
            rows, columns = g1.shape
            key = g1.shape, dtype, None if rows * columns <= MAX_GROUPED_SIZE else i
            for block1, block2 in zip(_row_blocks(g1), _row_blocks(g2)):
                folded_noise[key] = folded_noise.get(key, 0.0) + ops.square(block1 - block2)
                folded_signal[key] = folded_signal.get(key, 0.0) + block1 * block2
        else:
            columns = g1.shape[-1:] if device is None else ()
            key = columns, dtype
            axes = tuple(range(len(g1.shape) - len(columns)))
            noise[key] = noise.get(key, 0.0) + ops.sum(ops.square(g1 - g2), axes)
            signal[key] = signal.get(key, 0.0) + ops.sum(g1 * g2, axes)
    pairs = [_sum_of_each(folded_noise[key], folded_signal[key]) for key in folded_noise]
    total_noise = _total(noise) + sum(pair[0] for pair in pairs)
    total_signal = _total(signal) + sum(pair[1] for pair in pairs)
    return total_noise / 2.0, total_signal


def _join_small(pairs):
    """Joins small gradients to long vectors, a fixed number at a time; keeps the others."""
    small = [pair for pair in pairs if math.prod(pair[0].shape) <= MAX_GROUPED_SIZE]
    groups = {}
    for pair in small:
        groups.setdefault(str(pair[0].dtype), []).append(pair)
    joined = [pair for pair in pairs if math.prod(pair[0].shape) > MAX_GROUPED_SIZE]
    for group in groups.values():
        for start in range(0, len(group), MAX_JOINED):
            halves = zip(*group[start : start + MAX_JOINED])
            joined.append(tuple(ops.concatenate([ops.ravel(g) for g in half]) for half in halves))
    return joined


def _row_blocks(matrix):
    """Splits a matrix into `NUM_FOLDS` matrices with equal numbers of rows."""
    rows, columns = matrix.shape
    return ops.unstack(ops.reshape(matrix, (NUM_FOLDS, rows // NUM_FOLDS, columns)), NUM_FOLDS)


def _sum_of_each(first, second):
    """Returns the sums of two matrices of one shape, as one tensor of two numbers."""
    both = ops.reshape(ops.concatenate([first, second]), (2, *first.shape))
    rows, columns = first.shape
    if rows > XLA_WINDOW or columns % XLA_WINDOW or rows * columns > XLA_WINDOW**2:
        both = ops.sum(both, 1)
    else:
        both = ops.reshape(both, (2, rows * columns // XLA_WINDOW, XLA_WINDOW))
    return ops.sum(both, tuple(range(1, len(both.shape))))


def _total(sums):
    return ops.convert_to_tensor(sum((ops.sum(value) for value in sums.values()), 0.0))


def noise_and_signal_by_name(first, second, names, fold=False):
    """Returns a dict from name to `(N, G)` of all gradients that have this name in `names`."""
    if not len(first) == len(second) == len(names):
        raise ValueError(
            "`names` must have one name per gradient, and `second` as many as `first`. Received: "
            f"{len(names)} names, {len(first)} and {len(second)} gradients"
        )
    members = {name: [i for i, other in enumerate(names) if other == name] for name in names}
    return {
        name: noise_and_signal([first[i] for i in indices], [second[i] for i in indices], fold)
        for name, indices in members.items()
    }


def radial_gradient(weights, gradients):
    """Returns `<weights, gradients>`, zero for a scale-invariant loss."""
    # The signal of two lists is their inner product.
    tensors = [None if _keras.is_overwritten(w) else ops.convert_to_tensor(w) for w in weights]
    return noise_and_signal(tensors, gradients)[1]


def loss_gradients(weights, gradients, penalties, factor=1.0):
    """Returns gradients times `factor`, without those of regularizers, in float32 or more."""

    def of_loss(weight, gradient, penalty):
        if gradient is None or _keras.is_overwritten(weight):
            return None
        gradient = ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
        gradient = gradient * ops.cast(factor, gradient.dtype)
        return gradient if penalty is None else gradient - ops.cast(penalty, gradient.dtype)

    return list(map(of_loss, weights, gradients, penalties))


def penalty_gradients(weights, differentiate):
    """Returns the gradients of weight regularizers, which noise and signal leave out, or `None`."""
    regularized = [w for w in weights if getattr(w, "regularizer", None) is not None]
    if not regularized:
        return [None] * len(weights)

    def penalty():
        return sum(ops.cast(w.regularizer(w.value), "float32") for w in regularized), None

    _, gradients = differentiate(penalty, lambda: regularized)
    by_id = dict(zip(map(id, regularized), gradients))
    return [by_id.get(id(w)) for w in weights]


def layer_names(weights):
    """Returns the path of the layer of each weight."""
    return [weight.path.rpartition("/")[0] for weight in weights]


def measure_by_layer(model, batches):
    """Returns lists of N and G for each layer, by its path, one number per batch of 2B examples."""
    names = layer_names(model.trainable_weights)
    rows = {name: {"gradient_noise": [], "gradient_signal": []} for name in names}
    # The forward passes change moving statistics, seeds of dropout and metrics.
    state = [*model.non_trainable_variables, *model.metrics_variables]
    values = [ops.convert_to_numpy(variable) for variable in state]
    for batch in batches:
        gradients = [model._half_pass(half, weight=1)[1] for half in _split_batch(batch)]
        for name in rows:
            logs = _logs_of_layer(model, name, names, gradients)
            for column, numbers in rows[name].items():
                numbers.append(float(logs[column]))
    for variable, value in zip(state, values):
        variable.assign(value)
    return rows


def _split_batch(batch):
    data = keras.utils.unpack_x_y_sample_weight(batch)
    length = len(first_leaf(data))
    if length % 2 or not length:
        raise ValueError(
            "`batches` must contain batches of 2B examples, B for each half. "
            f"Received: a batch of {length} examples."
        )
    return split_batch(map_arrays(ops.convert_to_tensor, data), length, drop_odd=True)


def _logs_of_layer(model, name, names, gradients):
    """Returns the logs of a train step in which only the layer `name` has gradients."""
    only = [[g if n == name else None for g, n in zip(half, names)] for half in gradients]
    model._gradient_statistics.reset_state()
    model._record_noise(*only, 1, 1)
    return model._gradient_statistics.result()


@keras.saving.register_keras_serializable(package="keras_svag")
class GradientStatistics(keras.metrics.Metric):
    """Running means of gradient noise N and signal G, and the ratio of the means.

    The mean of ratios would be biased. Steps with non-finite gradients (float16 overflow) are left
    out.
    """

    def __init__(self, name="gradient_statistics", dtype=None):
        # Not floatx: running sums in bfloat16 would stop growing.
        super().__init__(name=name, dtype=dtype or "float32")
        # One variable, because each is a kernel of its own on a GPU: the sums of N, of G and of
        # their weights, and for the advisor the usable steps and the examples in the largest
        # batch. A mean would not tell the batch size, because of short last batches.
        self._totals = self.add_weight((NUM_TOTALS,), "zeros", name="totals")

    def totals(self):
        """Returns the sums of N, G and their weights, steps, and examples in the largest batch."""
        return ops.convert_to_tensor(self._totals)

    def update_state(self, noise, signal, sample_weight=1.0, batch_size=2.0, replicas=1):
        """Adds one step, weighted by the size of a half: a short last batch has a larger N."""
        weight = ops.cast(sample_weight, self.dtype)
        usable = ops.isfinite(noise + signal) & (weight > 0)
        noise, signal = (weight * ops.cast(value, self.dtype) for value in (noise, signal))
        # Over replicas, totals are summed: steps are counted once, batches add up.
        parts = noise, signal, weight, 1.0 / replicas, batch_size
        step = ops.stack([ops.cast(part, self.dtype) for part in parts])
        # `where`, not a product: 0 times nan is nan.
        sums = self.totals() + ops.where(usable, step, 0.0)
        largest = ops.maximum(self.totals(), step)
        is_last = np.arange(NUM_TOTALS) == NUM_TOTALS - 1
        self._totals.assign(ops.where(is_last, largest, sums))

    def result(self):
        """Returns the means, and N/G, infinite if the mean signal is not positive, as a dict."""
        noise, signal, weight, *_ = ops.unstack(self.totals(), NUM_TOTALS)
        weight = ops.maximum(weight, 1e-30)
        return {
            "gradient_noise": noise / weight,
            "gradient_signal": signal / weight,
            "noise_to_signal": ratio_or_infinity(noise, signal),
        }


def ratio_or_infinity(noise, signal):
    """Returns `noise / signal`, infinite where the signal is not positive."""
    signal = ops.convert_to_tensor(signal)
    positive = signal > 0
    return ops.where(positive, noise / ops.where(positive, signal, 1.0), float("inf"))
