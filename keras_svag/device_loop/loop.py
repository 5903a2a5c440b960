"""Train steps, or a whole evaluation, in compiled programs over data that stay on the device."""

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


def pad_rows(rows, length):
    """Pads an array with rows of zeros to a given length."""
    rows = np.asarray(rows)
    return np.pad(rows, [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1))


def prepare_inputs(prepare, batch, *args):
    """Returns a batch with its inputs `x` replaced by `prepare(x, *args)`."""
    return batch if prepare is None else (prepare(batch[0], *args), *batch[1:])


def split_evenly(length, max_size, replicas):
    """Splits a range into slices, all but a last rest being multiples of `replicas` long."""
    rest = length % replicas
    size_per_replica = length // replicas
    # Of equal size as far as possible, because each size is a program to compile.
    count = math.ceil(size_per_replica * replicas / max_size)
    size = replicas * math.ceil(size_per_replica / count) if count else 1
    stops = [*range(size, length - rest, size), length - rest, length]
    return [slice(start, stop) for start, stop in zip([0, *stops], stops) if stop > start]


class DeviceTrainLoop(BackendLoop):
    """Train steps of an `SVAGModel` over data that stay on the device.

    The compiled program gathers each batch by a row of example indices, so only these are copied
    from the host. Where it is fast (see `should_fuse_steps`, or `fuse_steps`) one call of the
    program takes up to `steps_per_call` steps; rows are padded to that length, so the program is
    compiled once. `prepare` is a function of the inputs of a batch and its row of `augment_params`,
    which returns what the model sees, for example augmented and normalized images.
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
        """True if one call of the program takes several steps."""
        return self._fuse_steps

    def _prepare_batch(self, batch, augment_params):
        return prepare_inputs(self._prepare, batch, augment_params)

    def _segment(self, rows, augment_params, start):
        """Returns the number of steps of the next call, and their padded rows and parameters."""
        count = min(self._steps_per_call, len(rows) - start)

        def pad(array):
            return pad_rows(array[start : start + count], self._steps_per_call)

        return count, *map_arrays(pad, (rows, augment_params))

    def run(self, rows, augment_params=None, reset_metrics=True):
        """Takes a step for each row of 2B indices; returns the number of steps and the metrics."""
        rows = np.asarray(rows, np.int32)
        done = 0
        while True:
            count, part, params = self._segment(rows, augment_params, done)
            steps_done, loss, logs = self._call(part, params, count, reset_metrics and done == 0)
            done += int(steps_done)
            # Training stops after a step whose loss is not finite.
            if int(steps_done) < count or done >= len(rows) or not math.isfinite(loss):
                return done, {name: float(value) for name, value in logs.items()}


class DeviceEvaluation(BackendEvaluation):
    """An evaluation of a compiled model on data that stay on the device.

    `prepare` is a function of the inputs of a batch that returns what the model sees. The compiled
    program of another evaluation of the model is reused if given as `share_program_with`.
    """

    def __init__(self, model, data, batch_size=2048, prepare=None, share_program_with=None):
        self._model = model
        self._prepare = prepare
        self.num_traces = 0
        slices = split_evenly(len(first_leaf(data)), batch_size, num_replicas())
        self._batches = [map_arrays(lambda a, s=s: self._to_device(a[s]), data) for s in slices]
        self._program = share_program_with._program if share_program_with else self._compiled()

    def _prepare_batch(self, batch):
        return prepare_inputs(self._prepare, batch)

    def run(self):
        """Returns the loss and the metrics of the current weights, a dict of floats."""
        for i, batch in enumerate(self._batches):
            logs = self._call(batch, reset_metrics=i == 0)
        return {name: float(value) for name, value in logs.items()}
