"""Gradient noise and signal from the two gradients that an SVAG step has anyway.

For independent batches of size B with gradients g1 and g2, `N = |g1 - g2|^2 / 2` estimates the
trace of the covariance of the mini-batch gradient and `G = <g1, g2>` the squared norm of the full
gradient, both without bias (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5).
"""

import keras
from keras import ops, tree

# Additions to each entry before matrices are summed: as many leave XLA little to sum up in order.
FOLDS = 8
# XLA takes sums over longer axes on a CPU in two kernels.
WINDOW = 32
# Entries up to which matrices of one shape are summed in one kernel, for which all of them must be
# in memory at the same time.
SMALL = 2**16

METRIC_NAMES = ("gradient_noise", "gradient_signal", "noise_to_signal")


def noise_and_signal(first, second, fold=False):
    """Unbiased estimates of gradient noise N and gradient signal G from two gradients.

    Args:
        first: list of gradient tensors of one batch; `None` entries are skipped.
        second: list of gradient tensors of an independent batch of the same size.
        fold: whether matrices are folded before they are summed: fewer and faster kernels where XLA
            compiles it for a CPU, but more operations where each is called by itself. Defaults to
            `False`.

    Returns:
        A tuple `(N, G)` of scalar tensors in float32 or better: `sum |g1 - g2|^2 / 2` and
        `sum g1 g2`, over all entries of all tensors.

    Example:

    >>> noise, signal = noise_and_signal([np.array([3.0, 0.0])], [np.array([1.0, 0.0])])
    >>> float(noise), float(signal)
    (2.0, 3.0)
    """
    # Tensors with the same key together. By the last axis first: XLA makes vector instructions of
    # such sums on a CPU, but not of a sum to one number, which it takes in order.
    noise, signal = {}, {}
    folded_noise, folded_signal = {}, {}
    for i, (g1, g2) in enumerate(zip(first, second)):
        if g1 is None or g2 is None:
            continue
        dtype = keras.backend.result_type(g1.dtype, "float32")
        g1, g2 = ops.cast(g1, dtype), ops.cast(g2, dtype)
        if fold and len(g1.shape) == 2 and g1.shape[0] % FOLDS == 0:
            rows, columns = g1.shape
            key = g1.shape, dtype, None if rows * columns <= SMALL else i
            for part1, part2 in zip(_parts(g1), _parts(g2)):
                folded_noise[key] = folded_noise.get(key, 0.0) + ops.square(part1 - part2)
                folded_signal[key] = folded_signal.get(key, 0.0) + part1 * part2
        else:
            key = g1.shape[-1:], dtype
            axes = tuple(range(len(g1.shape) - 1))
            noise[key] = noise.get(key, 0.0) + ops.sum(ops.square(g1 - g2), axes)
            signal[key] = signal.get(key, 0.0) + ops.sum(g1 * g2, axes)
    pairs = [_sum_of_each(folded_noise[key], folded_signal[key]) for key in folded_noise]
    total_noise = _total(noise) + sum(pair[0] for pair in pairs)
    total_signal = _total(signal) + sum(pair[1] for pair in pairs)
    return total_noise / 2.0, total_signal


def _parts(matrix):
    """The matrix cut into `FOLDS` matrices of as many rows."""
    rows, columns = matrix.shape
    return ops.unstack(ops.reshape(matrix, (FOLDS, rows // FOLDS, columns)), FOLDS)


def _sum_of_each(first, second):
    """The sums of two matrices of one shape, as one tensor of two numbers."""
    both = ops.reshape(ops.concatenate([first, second]), (2, *first.shape))
    rows, columns = first.shape
    if rows > WINDOW or columns % WINDOW or rows * columns > WINDOW**2:
        both = ops.sum(both, 1)
    else:
        both = ops.reshape(both, (2, rows * columns // WINDOW, WINDOW))
    return ops.sum(both, tuple(range(1, len(both.shape))))


def _total(sums):
    return ops.convert_to_tensor(sum((ops.sum(value) for value in sums.values()), 0.0))


def noise_and_signal_by_name(first, second, names):
    """N and G of each layer or weight; over all names they add up to `noise_and_signal`.

    Args:
        first: list of gradient tensors of one batch; `None` entries are skipped.
        second: list of gradient tensors of an independent batch of the same size.
        names: list of names, one for each gradient, such as `variable.path`. Gradients with the
            same name are taken together.

    Returns:
        A dict from name to the tuple `(N, G)`, in the order of `names`.

    Raises:
        ValueError: if the three lists differ in length.

    Example:

    >>> g1, g2 = [np.array([3.0]), np.array([1.0])], [np.array([1.0]), np.array([1.0])]
    >>> parts = noise_and_signal_by_name(g1, g2, ["kernel", "bias"])
    >>> [(name, float(noise), float(signal)) for name, (noise, signal) in parts.items()]
    [('kernel', 2.0, 3.0), ('bias', 0.0, 1.0)]
    """
    if not len(first) == len(second) == len(names):
        raise ValueError(
            "`names` must have one name for each gradient of both lists. Received: "
            f"{len(names)} names, {len(first)} and {len(second)} gradients"
        )
    members = {name: [i for i, other in enumerate(names) if other == name] for name in names}
    return {
        name: noise_and_signal([first[i] for i in indices], [second[i] for i in indices])
        for name, indices in members.items()
    }


def radial_gradient(weights, gradients):
    """`<x, grad L>`, zero for a loss that does not change when the weights are scaled.

    Args:
        weights: list of tensors or variables.
        gradients: list of their gradients; `None` entries are skipped.

    Returns:
        A scalar tensor in float32 or better.

    Example:

    >>> float(radial_gradient([np.array([1.0, 2.0])], [np.array([2.0, -1.0])]))
    0.0
    """
    # The signal of two lists is their inner product.
    return noise_and_signal([ops.convert_to_tensor(w) for w in weights], gradients)[1]


def measure_by_layer(model, batches):
    """N and G of every layer, from batches on which no step is taken.

    The train step logs N and G of the whole model only. This measures at the weights as they are,
    and leaves weights, moving statistics, metrics and the seeds of dropout as they were.

    Args:
        model: a compiled `keras_svag.SVAGModel`.
        batches: iterable of batches as `fit` takes them, `(x, y)` or `(x, y, sample_weight)`, each
            with 2B examples, even positions being the first half.

    Returns:
        A dict from the path of each layer with trainable weights to a dict with two lists,
        `gradient_noise` and `gradient_signal`, one number for each batch. Such a dict of lists is
        what `keras_svag.theory.RunningMeans.from_rows` takes.

    Raises:
        ValueError: if a batch has an odd number of examples.

    Example:

    >>> layers = [keras.Input((4,)), keras.layers.Dense(1, name="head")]
    >>> model = keras_svag.SVAGSequential(layers, name="net")
    >>> model.compile(keras_svag.SVAG(0.1), loss="mse")
    >>> parts = measure_by_layer(model, [(np.ones((8, 4)), np.ones((8, 1)))])
    >>> [(name, sorted(part)) for name, part in parts.items()]
    [('net/head', ['gradient_noise', 'gradient_signal'])]
    """
    names = [variable.path.rpartition("/")[0] for variable in model.trainable_weights]
    rows = {name: {"gradient_noise": [], "gradient_signal": []} for name in names}
    kept = [*model.non_trainable_variables, *model.metrics_variables]
    values = [ops.convert_to_numpy(variable) for variable in kept]
    for batch in batches:
        gradients = [_half_gradients(model, half) for half in _halves(batch)]
        for name in rows:
            logs = _logs_of(model, name, names, gradients)
            for column, numbers in rows[name].items():
                numbers.append(float(logs[column]))
    for variable, value in zip(kept, values):
        variable.assign(value)
    return rows


def _halves(batch):
    data = keras.utils.unpack_x_y_sample_weight(batch)
    length = len(next(leaf for leaf in tree.flatten(data) if leaf is not None))
    if length % 2 or not length:
        raise ValueError(
            "`batches` must hold 2B examples each, B for each half. "
            f"Received: a batch of {length} examples"
        )

    def half(start):
        def rows(array):
            return None if array is None else ops.convert_to_tensor(array)[start::2]

        return tree.map_structure(rows, data, none_is_leaf=True)

    return half(0), half(1)


def _half_gradients(model, half):
    return model._half_pass(half, weight=1)[1]


def _logs_of(model, name, names, gradients):
    """What the train step would log if there were no other layer than `name`."""
    only = [[g if n == name else None for g, n in zip(half, names)] for half in gradients]
    model._gradient_statistics.reset_state()
    model._record_noise(*only, weight=1)
    return model._gradient_statistics.result()


@keras.saving.register_keras_serializable(package="keras_svag")
class GradientStatistics(keras.metrics.Metric):
    """Running means of gradient noise N, gradient signal G, and the ratio of the means.

    The ratio is that of the means, not the mean of ratios, which would be biased. Steps with
    non-finite gradients (float16 overflow) are left out.

    Args:
        name: Name of the metric. Defaults to `"gradient_statistics"`.
        dtype: Dtype of the sums. Defaults to `None`, meaning float32.
    """

    def __init__(self, name="gradient_statistics", dtype=None):
        # Not floatx: running sums in bfloat16 would stop growing.
        super().__init__(name=name, dtype=dtype or "float32")
        self._noise = self.add_weight(name="noise", initializer="zeros")
        self._signal = self.add_weight(name="signal", initializer="zeros")
        self._weight = self.add_weight(name="weight", initializer="zeros")

    def update_state(self, noise, signal, sample_weight=1.0):
        """Adds one step.

        Args:
            noise: scalar tensor, N of this step.
            signal: scalar tensor, G of this step.
            sample_weight: scalar; the size of one half, so that a short last batch, whose N is
                larger, counts for less. 0 leaves the step out.
        """
        # `where`, not a product: 0 times nan is nan.
        usable = ops.isfinite(noise + signal) & (ops.cast(sample_weight, self.dtype) > 0)
        weight = ops.where(usable, ops.cast(sample_weight, self.dtype), 0.0)
        self._noise.assign_add(weight * ops.where(usable, ops.cast(noise, self.dtype), 0.0))
        self._signal.assign_add(weight * ops.where(usable, ops.cast(signal, self.dtype), 0.0))
        self._weight.assign_add(weight)

    def result(self):
        """Returns the means.

        Returns:
            A dict with `gradient_noise`, `gradient_signal` and `noise_to_signal`; the last is
            infinite where the mean signal is not positive.
        """
        weight = ops.maximum(self._weight, 1e-30)
        signal = ops.convert_to_tensor(self._signal)
        positive = signal > 0
        ratio = self._noise / ops.where(positive, signal, 1.0)
        return {
            "gradient_noise": self._noise / weight,
            "gradient_signal": signal / weight,
            "noise_to_signal": ops.where(positive, ratio, float("inf")),
        }
