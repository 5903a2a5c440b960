"""`Growth`: where a run is among its batch sizes, and the optimizer that has to be there too."""

import itertools

import keras

from keras_svag.optimizers import scaling
from keras_svag.optimizers.growth import (
    grow_optimizer,
    restore_snapshot,
    schedule_step,
    set_hyperparameters,
    snapshot,
)
from keras_svag.optimizers.scaling import mark_batch_size, marked_batch_size
from keras_svag.optimizers.state import check_can_grow
from keras_svag.trainer.record import GrowthRecord, record_of


class Growth:
    """Moves an optimizer along a list of batch sizes, also from one process to the next.

    Two things say where a run is: a record beside the weights of the model, and the optimizer's
    name. A checkpoint of weights restores the record, the variables of the optimizer and no
    hyperparameter; a model saved as a whole restores the optimizer with hyperparameters and name.
    """

    def __init__(self, sizes, rule):
        self._sizes = sizes
        self._rule = rule
        self._first = None, None  # an optimizer, its hyperparameters at the first batch size
        self.record = GrowthRecord()

    @property
    def count(self):
        """Number of growths so far."""
        return max(len(self.record.sizes) - 1, 0)

    @property
    def batch_size(self):
        """Batch size now."""
        return self._sizes[self.count]

    @property
    def next_size(self):
        """Batch size after the next growth, `None` after the last one."""
        return self._sizes[self.count + 1] if self.count + 1 < len(self._sizes) else None

    def set_model(self, model):
        """Uses the record of this model."""
        self.record = record_of(model)

    def check(self, optimizer):
        """Raises a `ValueError` if the optimizer cannot reach the largest batch size."""
        check_can_grow(optimizer)
        # Raises if there is no rule, or a learning rate that cannot be scaled.
        scaling.scaled_hyperparameters(optimizer, 1.0, self._rule)
        now = marked_batch_size(optimizer) or self._sizes[0]
        limit, kappa = scaling.max_kappa(optimizer, self._rule), self._sizes[-1] / now
        if kappa > 1 and kappa >= limit:
            rates = ", ".join(
                f"{name}={getattr(optimizer, name)}"
                for name in scaling.scaled_decay_rates(optimizer, self._rule)
            )
            raise ValueError(
                f"The batch size must stay below {limit * now:.6g} with {rates}, which the rule "
                f"would lower to 0 or less. Received: batch sizes {self._sizes}. Use fewer "
                "growths, a smaller `factor` or `max_batch_size`."
            )
        if now == self._sizes[0]:
            self._first = optimizer, snapshot(optimizer, self._rule)

    def sync(self, model, optimizer, growths_before, nominal_step):
        """Brings hyperparameters to the batch size of the run, after its weights are loaded."""
        # Without a record: `growths_before` this epoch, and the step of each by `nominal_step`.
        self._find_record(optimizer, growths_before, nominal_step)
        sizes, steps = self.record.sizes, self.record.steps
        if (marked_batch_size(optimizer) or self._sizes[0]) != sizes[-1]:
            if self._first[0] is not optimizer:
                raise ValueError(
                    "The hyperparameters of the optimizer must be those of the batch size of the "
                    f"run, {sizes[-1]}, or of the first one. Received: optimizer="
                    f"{optimizer.name!r}. Compile the model anew before loading its weights."
                )
            restore_snapshot(optimizer, self._first[1])
            # One by one, for the same rounding as in the run.
            for (old, new), step in zip(itertools.pairwise(sizes), steps[1:], strict=True):
                set_hyperparameters(optimizer, new / old, self._rule, step)
            model.make_train_function(force=True)
        mark_batch_size(optimizer, sizes[-1])

    def _find_record(self, optimizer, growths_before, nominal_step):
        record, step = self.record, schedule_step(optimizer)
        marked = marked_batch_size(optimizer)
        is_stale = record.steps and (not step or step < record.steps[-1])
        begins_here = record.sizes and record.sizes[-1] == marked == self._sizes[0]
        if is_stale or begins_here:
            record.clear()
        if not record.sizes:
            count = min(growths_before, len(self._sizes) - 1) if step else 0
            if marked is not None:
                count = self._index_of(marked, optimizer)
            record.sizes = self._sizes[: count + 1]
            record.steps = [0, *map(nominal_step, range(count))]
        elif record.sizes != self._sizes[: len(record.sizes)]:
            raise ValueError(
                "`start`, `factor` and `max_batch_size` must be those of the run that is resumed. "
                f"Received: batch sizes {self._sizes} after {record.sizes}."
            )

    def _index_of(self, size, optimizer):
        if size not in self._sizes:
            raise ValueError(
                "`optimizer` must be that of one of the batch sizes of the schedule. Received: "
                f"optimizer={optimizer.name!r}, batch sizes {self._sizes}. Use the schedule of "
                "that run, or a new optimizer."
            )
        return self._sizes.index(size)

    def grow(self, model: keras.Model, optimizer):
        """Moves the optimizer to the next batch size; compiles the train step anew if needed."""
        old, new, step = self.batch_size, self.next_size, schedule_step(optimizer)
        is_changed = grow_optimizer(optimizer, new / old, self._rule)
        mark_batch_size(optimizer, new)
        record = self.record
        record.sizes, record.steps = [*record.sizes, new], [*record.steps, step]
        record.rows, record.confirmations = [], 0
        if is_changed:
            model.make_train_function(force=True)
