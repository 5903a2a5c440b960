"""`NoiseScalePolicy`: lets a batch grow when the measured noise scale allows it."""

import math

from keras_svag.advice import Recorder, advise


class NoiseScalePolicy:
    """Measures N/G during `fit` as `BatchSizeAdvisor` does, and compares batches with the bound.

    With N and G of the first batch size, a batch may be `C^2 + (C^2 - 1) N/G` times as large; N is
    inversely proportional to the batch size at which it is measured. The lower end of the 95 %
    interval of N/G must allow the batch after `patience` epochs in a row.
    """

    def __init__(self, rule, closeness, patience):
        self._rule = rule
        self._closeness = closeness
        self._patience = patience
        self._recorder = Recorder()

    def begin_fit(self, record, optimizer):
        """Goes on with the readings of a record."""
        self._recorder = Recorder()
        self._recorder.rows = list(record.rows)
        self._recorder.begin_fit(optimizer)

    def begin_epoch(self):
        """Schedules a reading before the first batch."""
        self._recorder.begin_epoch()

    def is_due(self, batch):
        """Returns True if a reading is due before this batch."""
        return self._recorder.is_due(batch)

    def read(self, model, optimizer, batch, num_batches):
        """Takes a reading."""
        self._recorder.read(model, optimizer, batch, num_batches)

    def end_epoch(self, model, optimizer):
        """Takes the last reading of an epoch."""
        self._recorder.end_epoch(model, optimizer)

    def judge(self, record, next_size, optimizer):
        """Notes in the record whether this epoch allows the next batch size."""
        record.rows = list(self._recorder.rows)
        allowed = bool(record.rows) and next_size <= self._largest(record, optimizer)
        record.confirmations = record.confirmations + 1 if allowed else 0

    def is_confirmed(self, record):
        """Returns True if enough epochs in a row allowed the next batch size."""
        return record.confirmations >= self._patience

    def _largest(self, record, optimizer):
        advice = advise(record.rows, optimizer, rule=self._rule, closeness=self._closeness)
        ratio = advice.noise_scale.ci_low / advice.batch_size
        if not math.isfinite(ratio):
            return 0.0
        first, size = record.sizes[0], record.sizes[-1]
        square = self._closeness**2
        return square * first + (square - 1.0) * ratio * size
