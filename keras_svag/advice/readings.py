"""Readings of noise, signal and weight norm during training, averaged into rows."""

import dataclasses
import math

import numpy as np
from keras import ops

from keras_svag._keras import learned_weights

# A reading costs about as much as a step of a small network.
MIN_BATCHES_PER_ROW, ROWS_PER_EPOCH = 25, 10
# So many rows begin a run with a reading per batch, which shows if metrics are reset in between.
NUM_PROBES = 2


def number(variable):
    """Returns a scalar variable as a float, under a strategy that of all replicas."""
    return float(ops.convert_to_numpy(ops.convert_to_tensor(variable)))


@dataclasses.dataclass
class OpenRow:
    """Sums over the batches since the last row."""

    step: int  # at its start
    learning_rate: float
    sums: np.ndarray
    batch_size: float = 0.0


class Recorder:
    """Averages what the train step of an `SVAGModel` measures into rows, across epochs and fits.

    For other models it reads a `keras_svag.noise.watch.Watch`.

    A row has the `step` and `weight_norm` at its end, the means of `gradient_noise` (of a single
    example) and `gradient_signal`, and the `batch_size`, examples in the largest batch. Its
    `learning_rate` is NaN if it changed, and then belongs to no window at one learning rate;
    `last_rate` is that at the end. A watch by layer gives `layers`, a dict from path to N and G.
    """

    def __init__(self):
        self.rows = []
        self.watch = None
        self._open = None
        self._sums = None  # of the metric at the last reading
        self._next_reading = self._next_row = 0
        self._num_probes = 0
        self._rows_of_earlier_fits = 0

    def begin_fit(self, optimizer):
        """Goes on with the rows of an earlier fit, unless the model was compiled since."""
        if self.rows and number(optimizer.iterations) < self.rows[-1]["step"]:
            self.rows, self._open = [], None
        self._rows_of_earlier_fits = len(self.rows)
        self._num_probes = NUM_PROBES

    def begin_epoch(self):
        """Schedules a reading before the first batch."""
        self._sums, self._next_reading, self._next_row = None, 0, 0
        if self.watch is not None:
            self.watch.reset()

    def is_due(self, batch):
        """Returns True if a reading is due before this batch."""
        return batch >= self._next_reading

    def read(self, model, optimizer, batch, num_batches):
        """Takes a reading before a batch; closes the row every 25 batches or more."""
        is_first = self._sums is None
        was_reset = self._read(model, optimizer)
        if not is_first and batch >= self._next_row:
            self._close_row(model, optimizer)
        if is_first or batch >= self._next_row:
            spacing = math.ceil((num_batches or batch) / ROWS_PER_EPOCH)
            self._next_row = batch + max(MIN_BATCHES_PER_ROW, spacing)
        # `train_on_batch` resets metrics before each batch, so that each has to be read.
        is_probe, self._num_probes = self._num_probes > 0, max(0, self._num_probes - 1)
        self._next_reading = batch + 1 if was_reset or is_probe else self._next_row

    def end_epoch(self, model, optimizer):
        """Takes the last reading of an epoch, if there was one before."""
        if self._sums is not None:
            self._read(model, optimizer)
            self._close_row(model, optimizer)
            self._sums = None
        start = self._rows_of_earlier_fits
        earlier, later = self.rows[:start], self.rows[start:]
        if earlier and later and largest_batch(earlier) != largest_batch(later):
            # Another batch size is another run.
            self.rows, self._rows_of_earlier_fits = later, 0

    def _read(self, model, optimizer):
        """Adds to the open row; returns True if the metric was reset since the last reading."""
        sums, batch_size = self._read_sums(model)
        before = self._sums
        if self._open is None:
            self._open = _open_row(optimizer, len(sums))
        was_reset = False
        if before is not None:
            was_reset = sums[3] <= before[3] and (sums != before).any()
            self._open.sums += sums if was_reset else sums - before
            self._open.batch_size = max(self._open.batch_size, batch_size)
        self._sums = sums
        return was_reset

    def _read_sums(self, model):
        """Returns sums of N, G, weights and steps, then N and G of each layer; and B."""
        if self.watch is not None:
            (*sums, batch_size), layers = self.watch.read()
            return np.concatenate([sums, *layers]), batch_size
        *sums, batch_size = ops.convert_to_numpy(model._gradient_statistics.totals()).tolist()
        return np.array(sums), batch_size

    def _close_row(self, model, optimizer):
        row, step = self._open, int(number(optimizer.iterations))
        noise, signal, weight, usable, *layers = row.sums
        # Without a step the row stays open: gradients are accumulated over more batches, or were
        # not finite.
        if step <= row.step or usable <= 0:
            return
        self._open = _open_row(optimizer, len(row.sums))
        rate = self._open.learning_rate
        is_constant = math.isclose(rate, row.learning_rate, rel_tol=1e-6)
        squares = [ops.sum(ops.square(ops.cast(w, "float32"))) for w in learned_weights(model)]
        self.rows.append(
            {
                "step": step,
                "learning_rate": rate if is_constant else math.nan,
                "last_rate": rate,
                # Each N was weighted by the half that it is of: this is that of one example.
                "gradient_noise": noise / usable,
                "gradient_signal": signal / weight,
                "weight_norm": float(ops.convert_to_numpy(sum(squares))),
                "batch_size": round(row.batch_size),
            }
        )
        if layers:
            noises, signals = np.reshape(layers, (2, -1)) / [[usable], [weight]]
            pairs = zip(noises.tolist(), signals.tolist())
            self.rows[-1]["layers"] = dict(zip(self.watch.layers, pairs, strict=True))


def _open_row(optimizer, size):
    rate = number(optimizer.learning_rate)
    return OpenRow(int(number(optimizer.iterations)), rate, np.zeros(size))


def largest_batch(rows):
    """Returns the number of examples in the largest batch of the rows."""
    return max(row["batch_size"] for row in rows)
