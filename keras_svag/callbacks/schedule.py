"""`BatchSizeSchedule`: a batch that grows during one `fit`, with all hyperparameters."""

import itertools
import math
from typing import Any

import keras

from keras_svag import _keras
from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.advice.readings import number
from keras_svag.callbacks.growth import Growth
from keras_svag.callbacks.noise_scale import NoiseScalePolicy
from keras_svag.callbacks.sizes import batch_sizes, check_times
from keras_svag.datasets.growing import growing_batches
from keras_svag.optimizers import AmplificationMixin
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.scaling_rules import AUTO
from keras_svag.theory.verdicts.decision import validate_closeness
from keras_svag.trainer import SVAGModel

__all__ = ["BatchSizeSchedule"]

EPOCH, STEP = "epoch", "step"


class BatchSizeSchedule(keras.callbacks.Callback):
    """Grows the batch during `fit`, and scales the optimizer by its rule each time.

    The data go through `batches`:

    ```python
    schedule = BatchSizeSchedule(start=64, factor=2, at=[10, 20])
    data = SampledBatches(x, y, batch_size=64)
    model.fit(schedule.batches(data), epochs=30, callbacks=[schedule])
    ```

    An epoch stays one pass over the data, so it has `factor` times fewer steps. The learning rate
    and all other hyperparameters are scaled as by `keras_svag.scale_optimizer`, with two additions
    that a change in the middle of a run needs. A `LearningRateSchedule` goes on from where it is,
    in time of examples. The state of the optimizer is scaled to what it would be at the larger
    batch: a velocity is multiplied, an average of squared gradients divided by the factor
    (`docs/theory_optimizers.md`, section 6). The train step is compiled once for each batch size.

    With `policy="noise_scale"` the batch grows at the end of an epoch if the larger one is within
    `C^2 start + (C^2 - 1) S`, the bound of `BatchSizeAdvisor` for the batch size `start`, where S
    is the lower end of the 95 % interval of the noise scale B N/G. It must be so for `patience`
    epochs in a row.

    Runs resume with `keras.callbacks.BackupAndRestore` (put it after this callback), from a model
    saved as a whole, or with `load_weights`; pass `initial_epoch` in the last two. Batch size and
    hyperparameters are those of the saved run; nothing is scaled twice. A model saved as a whole
    has the hyperparameters of the batch size that its optimizer's name tells. The weights of a
    plain `keras.Model` that are loaded by hand, without `BackupAndRestore`, do not: growths before
    `initial_epoch` then count as done.

    The logs of an epoch have `batch_size`, that at its end. A callback that assigns the learning
    rate by itself, such as `LearningRateScheduler`, has to allow for the batch size; use a
    `LearningRateSchedule` instead.

    Args:
        start: Int, the batch size at the beginning, that of the data. That of `SampledBatches` is
            B, the size of one half.
        factor: Float > 1 by which the batch grows each time.
        at: Int or increasing ints > 0, the epochs at whose beginning the batch grows (counted from
            0), or with `unit="step"` the steps of the optimizer after which it does. Defaults to
            `None`: by `policy`.
        unit: `"epoch"` or `"step"`. A `PyDataset` of your own grows between epochs only. Defaults
            to `"epoch"`.
        policy: `"noise_scale"`, in place of `at`. Needs an `SVAGModel` and `max_batch_size`.
            Defaults to `None`.
        max_batch_size: Int, largest batch size. Defaults to `None`: no limit.
        rule: Scaling rule; see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        closeness: C > 1 of the bound. Defaults to `sqrt(2)`.
        patience: Int, the number of epochs in a row that must allow a growth. Defaults to `2`.
        verbose: 0 or 1; 1 prints a line when the batch grows. Defaults to `1`.

    Attributes:
        batch_size: The batch size now.

    Raises:
        ValueError: If an argument is out of range; when `fit` begins, if its data do not come from
            `batches`, or the optimizer has no rule or none that reaches the largest batch.

    Example:

    >>> x, y = np.ones((64, 4)), np.ones((64, 1))
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.01), loss="mse")
    >>> schedule = BatchSizeSchedule(start=4, factor=2, at=1, verbose=0)
    >>> data = schedule.batches(keras_svag.datasets.SampledBatches(x, y, batch_size=4))
    >>> history = model.fit(data, epochs=2, verbose=0, callbacks=[schedule])
    >>> history.history["batch_size"], round(float(model.optimizer.learning_rate), 4)
    ([4, 8], 0.02)
    """

    def __init__(
        self,
        start: int,
        factor: float,
        at: Any = None,
        unit: str = EPOCH,
        policy: str | None = None,
        max_batch_size: int | None = None,
        rule: str = AUTO,
        closeness: float = DEFAULT_CLOSENESS,
        patience: int = 2,
        verbose: int = 1,
    ):
        super().__init__()
        start = positive_int("start", start)
        factor = finite_float("factor", factor, "a number > 1", 1.0, exclusive=True)
        self._unit = one_of("unit", unit, (EPOCH, STEP))
        self._at = check_times(at, policy, max_batch_size)
        limit = None if max_batch_size is None else positive_int("max_batch_size", max_batch_size)
        count = None if policy else len(self._at)
        self._sizes = batch_sizes(start, factor, limit, count)
        closeness = validate_closeness(closeness)
        patience = positive_int("patience", patience)
        self._policy = NoiseScalePolicy(rule, closeness, patience) if policy else None
        self._growth = Growth(self._sizes, rule)
        self._verbose = verbose
        self._data: Any = None
        self._upcoming: list[int] = []  # batches of this epoch before which the batch grows

    @property
    def batch_size(self) -> int:
        """The batch size now."""
        return self._growth.batch_size

    def batches(
        self, data: Any, shuffle: bool | None = None, class_weight: dict[int, float] | None = None
    ) -> Any:
        """Returns the data to be passed to `fit`, in batches that grow.

        Args:
            data: `keras_svag.datasets.SampledBatches`; a `keras.utils.PyDataset` that reads its
                attribute `batch_size` whenever it makes a batch; or a `tf.data.Dataset` in batches
                of `start`, of known length, which is batched anew. The `workers` of a
                `PyDataset` are not used.
            shuffle: Boolean, whether to read the batches of a `PyDataset` in random order. That of
                `fit` has no effect on these data. Defaults to `None`: as Keras does, but in order
                for `SampledBatches`.
            class_weight: As for `fit`, where it has no effect on these data. Defaults to `None`.

        Returns:
            A data adapter of Keras.

        Raises:
            ValueError: If `data` is anything else, or does not have batches of `start`.
        """
        growing, adapter = growing_batches(data, self._sizes, shuffle, class_weight)
        if self._unit == STEP and not growing.can_grow_within_epoch:
            raise ValueError(
                "`unit` must be 'epoch' for a PyDataset, which knows no other batch size within an "
                f"epoch. Received: unit='step', data of type {type(data).__name__}. Use "
                "SampledBatches or a tf.data.Dataset."
            )
        self._data = growing
        return adapter

    @property
    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)

    def set_model(self, model):
        """Gives the model a record of batch sizes, which is saved with its weights."""
        super().set_model(model)
        self._growth.set_model(model)

    def on_train_begin(self, logs=None):
        """Checks data, model and optimizer; changes nothing yet."""
        self._check_data()
        optimizer = self._optimizer
        if isinstance(optimizer, AmplificationMixin) and not isinstance(self.model, SVAGModel):
            raise ValueError(
                "`model` must be a keras_svag.SVAGModel with an SVAG optimizer, which pairs "
                f"batches in any other. Received: model={self.model!r}. Use "
                "keras_svag.from_keras(model)."
            )
        measures = isinstance(self.model, SVAGModel) and self.model.measure_noise
        if self._policy and not measures:
            raise ValueError(
                "`policy='noise_scale'` needs a keras_svag.SVAGModel with measure_noise=True. "
                f"Received: model={self.model!r}. Use keras_svag.from_keras(model)."
            )
        self._growth.check(optimizer)
        self._is_synced = False

    def _check_data(self):
        # Keras hands on what `num_batches` returns: the array itself, if the data are these.
        steps = (self.params or {}).get("steps")
        if self._data is None or steps is not self._data.num_batches:
            raise ValueError(
                "`fit` must read the data that `BatchSizeSchedule.batches` returned, without "
                f"`steps_per_epoch`. Received: steps={steps}. Call model.fit(schedule.batches(data)"
                ", ...); plain arrays have one batch size, so let data be "
                "keras_svag.datasets.SampledBatches(x, y, batch_size)."
            )

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the state of a resumed run; grows the batch if it is time."""
        optimizer = self._optimizer
        if not self._is_synced:
            # Here, and not when training begins: other callbacks may have loaded weights since.
            self._growth.sync(
                self.model, optimizer, self._growths_before(epoch), self._nominal_step
            )
            self._is_synced = True
            if self._policy:
                self._policy.begin_fit(self._growth.record, optimizer)
        while self._growth.next_size is not None and self._is_due(epoch):
            self._grow(f"epoch {epoch}")
        self._data.begin_epoch(epoch, self._plan_epoch())
        if self._policy:
            self._policy.begin_epoch()

    def _growths_before(self, epoch):
        if self._policy:
            return 0
        if self._unit == EPOCH:
            return sum(at < epoch for at in self._at)
        count = self._optimizer.gradient_accumulation_steps or 1
        return sum(at * count < _keras.counted_batches(self._optimizer) for at in self._at)

    def _nominal_step(self, index):
        """Returns the step at which the growth with this number takes place if nothing is amiss."""
        if self._policy:  # hyperparameters are those of a saved model, and stay
            return _keras.counted_batches(self._optimizer)
        if self._unit == STEP:
            return self._at[index] * (self._optimizer.gradient_accumulation_steps or 1)
        ends = self._at[: index + 1]
        lengths = [b - a for a, b in itertools.pairwise([0, *ends])]
        pairs = zip(lengths, self._sizes, strict=False)
        return sum(epochs * self._data.length_at(size) for epochs, size in pairs)

    def _is_due(self, epoch):
        if self._policy:
            return self._policy.is_confirmed(self._growth.record)
        if self._unit == EPOCH:
            return self._at[self._growth.count] <= epoch
        return self._batches_until_growth() <= 0

    def _batches_until_growth(self, index=0):
        optimizer = self._optimizer
        count = optimizer.gradient_accumulation_steps or 1
        time = self._at[self._growth.count + index] * count
        steps = self.model.steps_per_execution
        return math.ceil((time - _keras.counted_batches(optimizer)) / steps) * steps

    def _plan_epoch(self):
        """Returns the segments of an epoch, and notes where they begin."""
        segments, self._upcoming = [(0, self.batch_size)], []
        if self._unit == STEP:
            for index, size in enumerate(self._sizes[self._growth.count + 1 :]):
                batch = self._batches_until_growth(index)
                if batch >= self._data.length(segments):
                    break
                segments.append((batch, size))
                self._upcoming.append(batch)
        return segments

    # `self.model` makes JAX wait, so it is read only if needed.
    def on_train_batch_begin(self, batch, logs=None):
        """Grows the batch within an epoch; takes a reading of the noise if one is due."""
        while self._upcoming and batch >= self._upcoming[0]:
            self._upcoming.pop(0)
            self._grow(f"batch {batch}")
        if self._policy and self._policy.is_due(batch):
            self._policy.read(self.model, self._optimizer, batch, int(self._data.num_batches))

    def on_test_begin(self, logs=None):
        """Takes a reading before validation resets the metrics."""
        if self._policy:
            self._policy.end_epoch(self.model, self._optimizer)

    def on_epoch_end(self, epoch, logs=None):
        """Adds the batch size to the logs; judges the noise scale."""
        if logs is not None:
            logs["batch_size"] = self.batch_size
        if self._policy:
            self._policy.end_epoch(self.model, self._optimizer)
            if self._growth.next_size is not None:
                self._policy.judge(self._growth.record, self._growth.next_size, self._optimizer)

    def _grow(self, when):
        optimizer = self._optimizer
        size, rate = self.batch_size, number(optimizer.learning_rate)
        self._growth.grow(self.model, optimizer)
        if self._policy:
            self._policy.begin_fit(self._growth.record, optimizer)
        if self._verbose:
            print(
                f"batch size {size} -> {self.batch_size} from {when} on; learning rate "
                f"{rate:.4g} -> {number(optimizer.learning_rate):.4g}",
                flush=True,
            )
