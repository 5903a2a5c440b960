"""Callbacks for `fit`."""

import math

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_svag._checks import finite_float, positive_int
from keras_svag._keras import learned_weights
from keras_svag.advice import Advice, advise
from keras_svag.models.scale_invariance import is_scale_invariant
from keras_svag.optimizers.scaling import check_kappa
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.scaling_rules import AUTO
from keras_svag.theory.verdicts.decision import validate_closeness
from keras_svag.trainer import SVAGModel

__all__ = ["BatchSizeAdvisor"]

# A reading costs about as much as a step of a small network.
_MIN_STEPS_PER_READING, _READINGS_PER_EPOCH = 25, 10


class BatchSizeAdvisor(keras.callbacks.Callback):
    """Advises during `fit` on the largest batch size to which training can be scaled.

    Works with an `SVAGModel` and any Keras optimizer. After every epoch it prints

    - `C^2 + (C^2 - 1) N/G` with its 95 % interval, for SGD without momentum an upper bound on the
      factor kappa on the batch size: training changes above it, and may change below it. For other
      optimizers it is a guide, not a bound; with momentum b, `kappa (1 - b)` is printed beside it,
      which must stay of order 1;
    - the scaling rule for the hyperparameters of this optimizer;
    - whether the bound is a theorem here (SGD without momentum, weight decay, a scale-invariant
      network, equilibrium) or a heuristic, and why;
    - the simple noise scale B N/G of McCandlish et al. (arXiv 1812.06162). Batches of plain `fit`
      come from shuffled epochs, which lowers G by (B/n) N.

    With an SVAG optimizer the base batch is B, half of the batch of `fit`. Any other optimizer
    steps on the whole batch of 2B, whose noise is N/2. In either case kappa multiplies the batch
    size of `fit`.

    N, G, the squared weight norm R and the learning rate are read ten times an epoch, but at most
    every 25 steps, without waiting for the device in between. Averages are over the longest window
    at one learning rate, after its approach to equilibrium. Intervals allow for correlation between
    readings, not for the spread between runs. A second `fit` continues the records.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470), section 5.

    Args:
        kappa: factor > 0 for which to print the scaled optimizer as code. Defaults to `None`.
        x: a batch of inputs on which to test scale invariance after each epoch; see
            `keras_svag.models.is_scale_invariant`. Defaults to `None`.
        scale_invariant: True or False if known without `x`. Defaults to `None`: unknown.
        closeness: C > 1, the factor within which R, G and B N must stay. Defaults to `sqrt(2)`.
        rule: scaling rule; see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        batch_size: B, half of the batch size of `fit`. Defaults to `None`: inferred.
        verbose: 0 or 1; 1 prints the advice. Defaults to `1`.

    Attributes:
        advice: the latest `keras_svag.advice.Advice`, or `None`.
        history: the list of the advice of every epoch.

    Raises:
        ValueError: if an argument is out of range; in `fit`, if the model is not an `SVAGModel`,
            does not measure noise, or `kappa` is beyond the optimizer's scaling rule.

    Example:

    >>> model = keras_svag.SVAGSequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(0.01), loss="mse")
    >>> advisor = BatchSizeAdvisor(kappa=4, verbose=0)
    >>> x, y = np.ones((64, 4)), np.arange(64.0)
    >>> history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[advisor])
    >>> advisor.advice.batch_size, advisor.advice.rule, advisor.advice.code
    (8, 'linear', 'keras.optimizers.SGD(learning_rate=0.04)')
    """

    def __init__(
        self,
        kappa: float | None = None,
        x: ArrayLike | None = None,
        scale_invariant: bool | None = None,
        closeness: float = DEFAULT_CLOSENESS,
        rule: str = AUTO,
        batch_size: int | None = None,
        verbose: int = 1,
    ):
        super().__init__()
        if kappa is not None:
            kappa = finite_float("kappa", kappa, "a finite number > 0", 0.0, exclusive=True)
        self._kappa = kappa
        self._x = x
        self._scale_invariant = scale_invariant
        self._closeness = validate_closeness(closeness)
        self._rule = rule
        self._batch_size = None if batch_size is None else positive_int("batch_size", batch_size)
        self._verbose = verbose
        self._rows: list[dict[str, float]] = []
        self._previous = None  # the reading at the start of the current row
        self._next_reading = 0
        self.advice: Advice | None = None
        self.history: list[Advice] = []

    @property
    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)

    def on_train_begin(self, logs=None):
        """Checks the model; keeps the records of an earlier `fit` of the same run."""
        if not isinstance(self.model, SVAGModel):
            raise ValueError(
                "`BatchSizeAdvisor` needs a keras_svag.SVAGModel, which measures noise and signal. "
                f"Received: model={self.model!r}. Use keras_svag.from_keras(model)."
            )
        if not self.model.measure_noise:
            raise ValueError(
                "`measure_noise` must be True with `BatchSizeAdvisor`. "
                "Received: measure_noise=False. Set model.measure_noise = True."
            )
        if self._kappa is not None or self._rule != AUTO:
            check_kappa(self._optimizer, self._kappa or 1.0, self._rule)
        if self._rows and int(self._optimizer.iterations) < self._rows[-1]["step"]:
            self._rows = []  # recompiled: a new run
        self._previous = None

    def on_epoch_begin(self, epoch, logs=None):
        """Schedules a reading before the first batch."""
        self._previous, self._next_reading = None, 0

    # Not `on_train_batch_end`: for a callback that has it, Keras fetches the logs of every batch
    # from the device.
    def on_train_batch_begin(self, batch, logs=None):
        """Takes a reading if one is due."""
        if batch >= self._next_reading:
            reading = self._read()
            self._add_row(reading)
            self._previous = reading
            steps = (self.params or {}).get("steps") or 0
            self._next_reading = batch + max(
                _MIN_STEPS_PER_READING, math.ceil(steps / _READINGS_PER_EPOCH)
            )

    def on_test_begin(self, logs=None):
        """Takes a reading before validation resets the metrics."""
        if self._previous:
            self._add_row(self._read())

    def on_epoch_end(self, epoch, logs=None):
        """Updates and prints the advice."""
        if self._previous:
            self._add_row(self._read())
        if self._rows:
            self.advice = self._advise(epoch)
            self.history.append(self.advice)
            self._print(f"Epoch {epoch + 1}: {self.advice}")

    def on_train_end(self, logs=None):
        """Prints the last advice with the state of equilibrium and code."""
        if self.advice:
            self._print(self.advice.describe())

    def _read(self):
        """Returns sums of N and G over the epoch, R, the step and the learning rate."""
        model, optimizer = self.model, self._optimizer
        weights = learned_weights(model)
        squares = [ops.sum(ops.square(ops.cast(w, "float32"))) for w in weights]
        return {
            # Noise, signal and number of examples.
            "sums": np.array([float(v) for v in model._gradient_statistics.variables]),
            "weight_norm": float(sum(squares)),
            "step": int(optimizer.iterations),
            "learning_rate": float(optimizer.learning_rate),
        }

    def _add_row(self, reading):
        """Records the means of N and G since the previous reading."""
        previous, self._previous = self._previous, None
        if previous is None:
            return
        noise, signal, examples = reading["sums"] - previous["sums"]
        steps = reading["step"] - previous["step"]
        if examples <= 0 or steps <= 0:  # no step in between had finite gradients
            return
        rate = reading["learning_rate"]
        unchanged = math.isclose(rate, previous["learning_rate"], rel_tol=1e-6)
        self._rows.append(
            {
                "step": reading["step"],
                # NaN equals no other rate: the row belongs to no window at one learning rate.
                "learning_rate": rate if unchanged else math.nan,
                "gradient_noise": noise / examples,
                "gradient_signal": signal / examples,
                "weight_norm": reading["weight_norm"],
                "examples_per_step": examples / steps,
            }
        )

    def _advise(self, epoch):
        scale_invariant = self._scale_invariant
        if scale_invariant is None and self._x is not None:
            scale_invariant = is_scale_invariant(self.model, self._x)
        return advise(
            self._rows,
            self._optimizer,
            self._batch_size or self._inferred_batch_size(),
            scale_invariant,
            self._kappa,
            self._rule,
            self._closeness,
            epoch=epoch,
        )

    def _inferred_batch_size(self):
        # The maximum: a short last batch or a step without finite gradients lowers a row's mean.
        examples = max(row["examples_per_step"] for row in self._rows)
        return max(1, round(examples / (self._optimizer.gradient_accumulation_steps or 1)))

    def _print(self, text):
        if self._verbose:
            # The progress bar of Keras leaves its line open.
            print(f"\n{text}", flush=True)
