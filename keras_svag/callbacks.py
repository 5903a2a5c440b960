"""Callbacks for `fit`: how far batch size and learning rate can be scaled together."""

import math

import keras
import numpy as np
from keras import ops

from keras_svag._checks import finite_float, positive_int
from keras_svag.advice import advise
from keras_svag.models.scale_invariance import is_scale_invariant
from keras_svag.optimizers.scaling import check_kappa
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.scaling_rules import AUTO
from keras_svag.theory.validity import validate_closeness
from keras_svag.trainer import SVAGModel

__all__ = ["BatchSizeAdvisor"]

# Readings cost about as much as a small network's step: at most one in so many steps.
_STEPS_PER_READING, _READINGS_PER_EPOCH = 25, 10


class BatchSizeAdvisor(keras.callbacks.Callback):
    """Says during `fit` how far batch size and learning rate can be scaled together.

    For an `SVAGModel` with any Keras optimizer. It watches the gradient noise N and signal G that
    the train step measures anyway, waits for equilibrium or says that it has not been reached, and
    after every epoch says in one sentence

    - the largest factor kappa on the batch size, `C^2 + (C^2 - 1) N/G` with its 95 % interval: an
      upper bound, beyond which training changes and below which nothing follows;
    - the rule by which the hyperparameters of this optimizer go along;
    - whether the bound is a theorem here (SGD without momentum, weight decay, a scale invariant
      network, in equilibrium) or a heuristic (everything else), and what is missing;
    - the simple noise scale B N/G of McCandlish et al. (arXiv 1812.06162), as logged: the batches
      of plain `fit` are cut from shuffled epochs, for which G is low by (B/n) N.

    With an SVAG optimizer the base batch is B, the half of what `fit` was given, whose gradient SGD
    would use. Any other optimizer takes the step of the whole batch of 2B, whose noise is N/2; then
    that is the base. Either way the batch size of `fit` is what is multiplied by kappa.

    N, G, the squared weight norm R and the learning rate are read ten times an epoch (at most once
    in 25 steps, at least at every epoch's end), between steps and without fetching the logs of a
    batch, so that steps go on asynchronously in between. Means and intervals are over the longest
    stretch at one learning rate, after its approach to equilibrium; the interval is that of one
    run's mean, correlation between readings allowed for, and knows nothing of the spread between
    runs. A second `fit` with the same callback goes on with its records.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470), section 5.

    Args:
        kappa: a factor for which the optimizer is wanted as ready-to-paste code, a float > 0.
            Defaults to `None`: no code.
        x: a batch of inputs, to find out after each epoch whether the network is scale invariant;
            see `keras_svag.models.is_scale_invariant`. Defaults to `None`.
        scale_invariant: whether the network is, where that is known without `x`. Defaults to
            `None`: not known.
        closeness: C, the factor within which R, G and B N are to stay. Defaults to `sqrt(2)`.
        rule: `"auto"`, or another rule for this optimizer: see `keras_svag.scale_optimizer`.
            Defaults to `"auto"`.
        batch_size: B, half of the batch size of `fit`. Defaults to `None`: found from the batches.
        verbose: 1 prints the sentence after every epoch and more after the last; 0 nothing.
            Defaults to `1`.

    Attributes:
        advice: the latest `keras_svag.advice.Advice`, or `None`.
        history: list with the advice of every epoch.

    Raises:
        ValueError: if an argument is out of range; when training begins, if the model is not an
            `SVAGModel`, does not measure noise, or the optimizer's rule does not allow `kappa`.

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
        kappa=None,
        x=None,
        scale_invariant=None,
        closeness=DEFAULT_CLOSENESS,
        rule=AUTO,
        batch_size=None,
        verbose=1,
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
        self._rows = []
        self._window = None  # what was read when the present window began
        self._next_reading = 0
        self.advice = None
        self.history = []

    @property
    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)

    def on_train_begin(self, logs=None):
        """Checks the model, and goes on with the records of a `fit` before."""
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
            self._rows = []  # compiled anew: another run
        self._window = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts a window at the first batch."""
        self._window, self._next_reading = None, 0

    # Before a batch and not after it: for what comes after one, Keras would fetch the logs of
    # every batch from the device.
    def on_train_batch_begin(self, batch, logs=None):
        """Reads, if it is time to."""
        if batch >= self._next_reading:
            now = self._read()
            self._end_window(now)
            self._window = now
            self._next_reading = batch + self._steps_per_reading()

    def on_test_begin(self, logs=None):
        """Reads before validation resets the metrics."""
        if self._window:
            self._end_window(self._read())

    def on_epoch_end(self, epoch, logs=None):
        """Gives the advice of the epoch."""
        if self._window:
            self._end_window(self._read())
        if self._rows:
            self.advice = self._advise(epoch)
            self.history.append(self.advice)
            self._print(f"Epoch {epoch + 1}: {self.advice}")

    def on_train_end(self, logs=None):
        """Repeats the last advice, with equilibrium and code."""
        if self.advice:
            self._print(self.advice.describe())

    def _steps_per_reading(self):
        steps = (self.params or {}).get("steps") or 0
        return max(_STEPS_PER_READING, math.ceil(steps / _READINGS_PER_EPOCH))

    def _read(self):
        """Where training stands: sums of N and G, R, steps, learning rate."""
        model, optimizer = self.model, self._optimizer
        squares = [ops.sum(ops.square(ops.cast(w, "float32"))) for w in model.trainable_variables]
        return {
            # The sums over the epoch so far of noise, signal and weight.
            "sums": np.array([float(v) for v in model._gradient_statistics.variables]),
            "weight_norm": float(sum(squares)),
            "step": int(optimizer.iterations),
            "learning_rate": float(optimizer.learning_rate),
        }

    def _end_window(self, now):
        before, self._window = self._window, None
        if before is None:
            return
        noise, signal, examples = now["sums"] - before["sums"]
        steps = now["step"] - before["step"]
        if examples <= 0 or steps <= 0:  # no step in between whose gradients were finite
            return
        rate = now["learning_rate"]
        unchanged = math.isclose(rate, before["learning_rate"], rel_tol=1e-6)
        self._rows.append(
            {
                "step": now["step"],
                # A window in which it changes belongs to no stretch at one learning rate.
                "learning_rate": rate if unchanged else math.nan,
                "gradient_noise": noise / examples,
                "gradient_signal": signal / examples,
                "weight_norm": now["weight_norm"],
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
            self._batch_size or self._found_batch_size(),
            scale_invariant,
            self._kappa,
            self._rule,
            self._closeness,
            epoch=epoch,
        )

    def _found_batch_size(self):
        # The largest: a short batch or a step without finite gradients lowers that of its window.
        examples = max(row["examples_per_step"] for row in self._rows)
        return max(1, round(examples / (self._optimizer.gradient_accumulation_steps or 1)))

    def _print(self, text):
        if self._verbose:
            # As Keras' own callbacks do: the progress bar leaves its line open.
            print(f"\n{text}", flush=True)
