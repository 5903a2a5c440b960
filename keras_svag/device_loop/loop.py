"""Many steps, or a whole evaluation, in compiled programs over data that stay on the device."""

import math
import typing

import numpy as np

from keras_svag._backend import backend_module
from keras_svag.distribution import num_replicas
from keras_svag.trainer.structures import first_leaf, map_arrays
from keras_svag.xla_policy import should_fuse_steps

backend = backend_module(__package__)
BackendLoop: typing.Any = backend.BackendLoop
BackendEvaluation: typing.Any = backend.BackendEvaluation


def padded(rows, length):
    """A NumPy array of `length` rows, of which those after the given ones are zero."""
    rows = np.asarray(rows)
    return np.pad(rows, [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def split_evenly(length, most, replicas):
    """Cuts a range into pieces that can be shared equally, and a rest smaller than `replicas`.

    Args:
        length: int, length of the range.
        most: int, about the largest length of a piece.
        replicas: int, of which the length of every piece but the rest is a multiple.

    Returns:
        A list of slices.

    Example:

    >>> split_evenly(11, 4, replicas=2)
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None), slice(10, 11, None)]
    """
    rest = length % replicas
    shares = length // replicas
    # Of one size where that can be: each size is a program to compile.
    count = math.ceil(shares * replicas / most)
    size = replicas * math.ceil(shares / count) if count else 1
    ends = [*range(size, length - rest, size), length - rest, length]
    starts = [0, *ends]
    return [slice(start, end) for start, end in zip(starts, ends) if end > start]


class DeviceTrainLoop(BackendLoop):
    """Many train steps over arrays that stay on the device.

    The compiled program gathers each batch by a row of example indices, so nothing is copied from
    the host but those rows. Where the network allows (see `should_fuse_steps`) one call of the
    program takes many steps. Rows are then padded to `steps_per_call`, so that the number of steps
    is data and the program is compiled once.

    Args:
        model: a built, compiled `SVAGModel`.
        data: structure of arrays as `fit` takes it, such as `(x, y)`, of n examples each.
        steps_per_call: largest number of steps in one call of the program.
        prepare: function of a batch's inputs x and its row of `augment_params` (or `None`) that gives what
            the model is to see, such as augmented and normalised images. Defaults to `None`: x.
        fuse_steps: whether the loop over steps is inside the compiled program. Defaults to `None`:
            by `should_fuse_steps`.
    """

    def __init__(self, model, data, steps_per_call, prepare=None, fuse_steps=None):
        self._model = model
        self._prepare = prepare
        self._fuse_steps = should_fuse_steps(model) if fuse_steps is None else fuse_steps
        self._steps_per_call = steps_per_call if self._fuse_steps else 1
        self.num_traces = 0
        self._compile(data)

    @property
    def fuses_steps(self):
        """Whether the loop over steps is inside the compiled program."""
        return self._fuse_steps

    def _prepared(self, batch, augment_params):
        if self._prepare is None:
            return batch
        x, *rest = batch
        return (self._prepare(x, augment_params), *rest)

    def _piece(self, rows, augment_params, done):
        """How many steps the next call takes, and their rows and augment_params, padded to one length."""
        count = min(self._steps_per_call, len(rows) - done)
        piece = slice(done, done + count)
        part, params = map_arrays(
            lambda a: padded(a[piece], self._steps_per_call), (rows, augment_params)
        )
        return count, part, params

    def run(self, rows, augment_params=None, reset_metrics=True):
        """Takes one step for each row.

        Args:
            rows: integer array of shape `(steps, 2B)`: the examples of each step.
            augment_params: structure of arrays with a row per step, for `prepare`. Defaults to `None`.
            reset_metrics: whether the metrics begin here; otherwise they go on from where they are.
                Defaults to `True`.

        Returns:
            A tuple `(steps, logs)`: the number of steps taken (fewer than asked for if the loss
            stopped being finite; the last one taken is the one at fault) and the model's metrics
            over them.
        """
        rows = np.asarray(rows, np.int32)
        done = 0
        while True:
            count, part, params = self._piece(rows, augment_params, done)
            steps_done, loss, logs = self._call(
                part, params, count, reset_metrics=reset_metrics and done == 0
            )
            done += int(steps_done)
            if int(steps_done) < count or done >= len(rows) or not math.isfinite(loss):
                return done, {name: float(value) for name, value in logs.items()}


class DeviceEvaluation(BackendEvaluation):
    """Loss and metrics over arrays that stay on the device, in one compiled program.

    Args:
        model: a built, compiled model.
        data: structure of arrays as `evaluate` takes it.
        batch_size: largest number of examples in one forward pass. Defaults to `2048`.
        prepare: function of a batch's inputs that gives what the model is to see.
            Defaults to `None`: the inputs.
        share_program_with: another evaluation of this model whose compiled program is to be used, or `None`.
    """

    def __init__(self, model, data, batch_size=2048, prepare=None, share_program_with=None):
        self._model = model
        self._prepare = prepare
        self.num_traces = 0
        pieces = split_evenly(len(first_leaf(data)), batch_size, num_replicas())
        self._batches = [map_arrays(lambda a, p=p: self._on_device(a[p]), data) for p in pieces]
        self._program = share_program_with._program if share_program_with else self._compiled()

    def _prepared(self, batch):
        if self._prepare is None:
            return batch
        x, *rest = batch
        return (self._prepare(x), *rest)

    def run(self):
        """Evaluates the model as it is now.

        Returns:
            A dict of floats.
        """
        for i, batch in enumerate(self._batches):
            logs = self._call(batch, reset_metrics=i == 0)
        return {name: float(value) for name, value in logs.items()}
