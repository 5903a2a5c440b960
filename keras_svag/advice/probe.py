"""Measures the time of a training step at several batch sizes, and leaves the model as it was."""

import dataclasses
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_svag import _keras
from keras_svag._checks import as_list, positive_int
from keras_svag.advice.throughput import weigh_batch_sizes

clock = time.perf_counter
OUT_OF_MEMORY = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "OOM when allocating", "out of memory")


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Median seconds of a training step by batch size; `None` where it does not fit."""

    step_seconds: dict[int, float | None]

    def weigh(self, noise_scale, base_batch_size=None, devices=1):
        """Returns time and cost to the same loss by batch size: see `probe_throughput`."""
        return weigh_batch_sizes(self.step_seconds, noise_scale, base_batch_size, devices)


def probe_throughput(
    model: keras.Model,
    data: Any,
    batch_sizes: Sequence[int],
    steps: int = 10,
    repeats: int = 5,
) -> Throughput:
    """Measures how long a training step takes at several batch sizes.

    The model trains by `fit` on one batch of each size again and again, without input pipeline. The
    first `steps` compile and warm up; then the median of `repeats` times of `steps` counts.
    Weights, optimizer and metrics are as before afterwards. A batch that does not fit into memory
    is a row without a time, not an error.

    The result has `step_seconds`, a dict, and a method `weigh(noise_scale, base_batch_size=None,
    devices=1)`, which returns a table with the batch sizes of least time and of least cost to the
    same loss. One step at kappa times the batch size counts as `(N + G) / (N/kappa + G)` steps, as
    in AdaScale ([Johnson et al., 2020](https://arxiv.org/abs/2007.05105)) and AdaptDL
    ([Qiao et al., 2021](https://arxiv.org/abs/2008.12260)), if the learning rate is scaled with the
    batch size. Time is that of so many steps. Cost is device seconds, time times `devices`, an int
    or a dict by batch size. Both are relative to `base_batch_size`: by default that of the advice,
    or the smallest. `noise_scale` is B N/G in examples, the `advice` of a `BatchSizeAdvisor`, or a
    pair `(N, G)` at the base.

    Args:
        model: Compiled `keras.Model`.
        data: Tuple `(x, y)` or `(x, y, sample_weight)` as for `fit`, of arrays or structures of
            arrays. Examples are repeated where there are fewer than a batch.
        batch_sizes: Batch sizes of `fit`, over all devices of a strategy.
        steps: Steps to time together. Defaults to `10`.
        repeats: Number of times. Defaults to `5`.

    Returns:
        A `Throughput`.

    Raises:
        ValueError: If the model is not compiled, or an argument is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile("sgd", "mse")
    >>> times = probe_throughput(model, (np.ones((64, 4)), np.ones((64, 1))), (8, 32), steps=2)
    >>> table = times.weigh(noise_scale=64)
    >>> [row.batch_size for row in table.rows]
    [8, 32]
    """
    if not getattr(model, "compiled", False):
        raise ValueError(
            f"`model` must be a compiled keras.Model. Received: model={model!r}. Call `compile`."
        )
    sizes = sorted({positive_int("batch_sizes", size) for size in as_list(batch_sizes)})
    if not sizes:
        raise ValueError(f"`batch_sizes` must not be empty. Received: batch_sizes={batch_sizes!r}")
    steps, repeats = positive_int("steps", steps), positive_int("repeats", repeats)
    group = int(model.steps_per_execution or 1)
    steps = group * math.ceil(steps / group)
    _keras.build_for_training(model, _batch(data, sizes[0]))
    variables = _variables(model)
    before = [ops.convert_to_numpy(variable) for variable in variables]
    found = {}
    for size in sizes:
        try:
            found[size] = _time_step(model, _batch(data, size), steps, repeats)
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            found[size] = None
        finally:
            for variable, value in zip(variables, before):
                variable.assign(value)
    return Throughput(found)


def _variables(model):
    """Returns all variables that training changes, each once."""
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return list({id(variable): variable for variable in variables}.values())


def _batch(data, size):
    """Returns a batch of the first examples, which begin anew after the last one."""
    if not isinstance(data, (tuple, list)) or len(data) not in (1, 2, 3):
        raise ValueError(
            "`data` must be a tuple (x, y) or (x, y, sample_weight) of arrays. "
            f"Received: data of type {type(data).__name__}"
        )
    count = min((len(leaf) for leaf in tree.flatten(data) if leaf is not None), default=0)
    if not count:
        raise ValueError("`data` must hold examples. Received: none.")
    rows = np.arange(size) % count
    return tuple(tree.map_structure(lambda leaf: np.asarray(leaf)[rows], part) for part in data)


def _time_step(model, batch, steps, repeats):
    """Returns the median seconds of a step, after the first `steps`."""
    stopwatch = _Stopwatch()
    stopped, history = model.stop_training, getattr(model, "history", None)
    try:
        model.fit(_SameBatch(batch, steps), epochs=repeats + 1, verbose=0, callbacks=[stopwatch])
    finally:
        model.stop_training, model.history = stopped, history
    return statistics.median(stopwatch.seconds[1:]) / steps


class _SameBatch(keras.utils.PyDataset):
    """The same batch a number of times."""

    def __init__(self, batch, count):
        super().__init__()
        self._batch, self._count = batch, count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        return self._batch


class _Stopwatch(keras.callbacks.Callback):
    """Seconds of each epoch, whose last step is waited for."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = clock()

    def on_epoch_end(self, epoch, logs=None):
        # Steps are asynchronous on accelerators: this one waits.
        ops.convert_to_numpy(ops.convert_to_tensor(self.model.optimizer.iterations))
        self.seconds.append(clock() - self._start)


def _is_out_of_memory(error):
    return isinstance(error, MemoryError) or any(word in str(error) for word in OUT_OF_MEMORY)
