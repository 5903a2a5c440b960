"""`BatchSizeAdvisor`: how far the batch size can be raised, said during `fit`."""

import functools
import typing
import warnings

import keras
from numpy.typing import ArrayLike

from keras_svag._checks import finite_float
from keras_svag.advice import Advice, Recorder, advise, figure, wording
from keras_svag.models.scale_invariance import is_scale_invariant
from keras_svag.noise.watch import Watch, reason_not_to_watch
from keras_svag.optimizers.scaling import check_kappa
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.scaling_rules import AUTO
from keras_svag.theory.verdicts.decision import validate_closeness
from keras_svag.trainer import SVAGModel

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BatchSizeAdvisor"]


def _never_raises(hook):
    """Turns an error of a hook into one warning: who only advises must not end a training run."""

    @functools.wraps(hook)
    def guarded(self, *args, **kwargs):
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"`BatchSizeAdvisor` failed and may give no advice; training is not affected. "
                    f"{type(error).__name__}: {error}",
                    stacklevel=2,
                )

    return guarded


def _check_measurable(model, by_layer):
    """Raises if noise cannot be measured in the train step of a model."""
    if isinstance(model, SVAGModel):
        if not model.measure_noise:
            raise ValueError(
                "`measure_noise` must be True with `BatchSizeAdvisor`. "
                "Received: measure_noise=False. Set model.measure_noise = True."
            )
        if by_layer:
            raise ValueError(
                "`by_layer` must be False for an SVAGModel. Received: by_layer=True. Use the model "
                "that it was made from, with gradient_accumulation_steps in its optimizer."
            )
        return
    reason = reason_not_to_watch(model)
    if reason is not None:
        raise ValueError(
            "`BatchSizeAdvisor` needs a keras_svag.SVAGModel, which measures noise and signal, or "
            "several gradients per step, which are compared. Received: "
            f"model={model!r} with {reason}. Use keras_svag.from_keras(model), for a model without "
            "a `train_step` of its own; or an optimizer with gradient_accumulation_steps; or a "
            "TensorFlow strategy of several replicas; or call keras_svag.noise.GradientNoiseScale "
            "in `train_step`."
        )


class BatchSizeAdvisor(keras.callbacks.Callback):
    """Advises during `fit` on the largest batch size to which training can be scaled.

    Works with an `SVAGModel` and any Keras optimizer. With any other model, also one with a
    `train_step` of its own, it works where a step averages several gradients: over the replicas of
    a TensorFlow strategy, or by `gradient_accumulation_steps`. After an epoch it prints a line such
    as

        batch size: x 3.3 at most (95 %: 2.0 to 5.1), heuristic, not in equilibrium; noise scale 84

    as soon as there is something to say, and after training the details, also returned by
    `report`:

    - the largest factor kappa on the batch size, `C^2 + (C^2 - 1) N/G`. For SGD without momentum it
      is an upper bound: training changes above it, and may change below it. For other optimizers it
      is a guide, not a bound; with momentum b, `kappa (1 - b)` must stay of order 1;
    - whether the bound is a theorem here (SGD without momentum, weight decay, a scale-invariant
      network, equilibrium) or a heuristic, and why;
    - the simple noise scale B N/G of McCandlish et al. (arXiv 1812.06162), in examples. Batches of
      plain `fit` come from shuffled epochs, which lowers G by (B/n) N;
    - the scaling rule of this optimizer, and the optimizer scaled by `kappa` as code.

    With an SVAG optimizer the base batch is half of the batch of `fit`; any other optimizer steps
    on the whole batch, or on several with `gradient_accumulation_steps`. In any case kappa
    multiplies the batch size of `fit`, which is read from the batches themselves.

    N, G, the squared weight norm R and the learning rate are read ten times an epoch, but at most
    every 25 batches, without waiting for the device in between. Averages are over the latest steps
    at one learning rate, after the approach to equilibrium. While the learning rate moves they are
    over the latest quarter of the run, about ten readings at least, and the line says so. Intervals
    allow for correlation between readings, not for the spread between runs. A second `fit`
    continues the records.

    Models other than `SVAGModel` are measured as by `keras_svag.noise.GradientNoiseScale`, at the
    optimizer's `apply` (`stateless_apply` on JAX), which a `train_step` must call once per batch.
    Their epoch logs gain the results of that metric. Over replicas it takes a second sum of all
    gradients in each step. On JAX, data parallelism alone does not show the gradients of devices.

    In a loop with `train_on_batch`, call the methods of the callback as `keras.callbacks.Callback`
    says: at least `on_epoch_begin`, `on_train_batch_begin` and `on_epoch_end`, and with models
    other than `SVAGModel` also `on_train_begin` and `on_train_end`. An error inside the callback
    becomes a warning.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470), section 5.

    Args:
        kappa: factor > 0 for which to print the scaled optimizer as code. Defaults to `None`.
        x: a batch of inputs on which to test scale invariance after each epoch; see
            `keras_svag.models.is_scale_invariant`. Defaults to `None`.
        scale_invariant: True or False if known without `x`. Defaults to `None`: unknown.
        closeness: C > 1, the factor within which R, G and B N must stay. Defaults to `sqrt(2)`.
        rule: scaling rule; see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        verbose: 0 or 1; 1 prints the advice. Defaults to `1`.
        by_layer: also measure the noise scale of each layer, for epoch logs and `plot`. Not for an
            `SVAGModel`. Defaults to `False`.

    Attributes:
        advice: the latest `keras_svag.advice.Advice`, or `None`.
        history: the list of the advice of every epoch.

    Raises:
        ValueError: if an argument is out of range; when `fit` begins, if noise cannot be measured
            in this model, or `kappa` is beyond the optimizer's scaling rule.

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
        verbose: int = 1,
        by_layer: bool = False,
    ):
        super().__init__()
        if kappa is not None:
            kappa = finite_float("kappa", kappa, "a finite number > 0", 0.0, exclusive=True)
        self._kappa = kappa
        self._x = x
        self._scale_invariant = scale_invariant
        self._closeness = validate_closeness(closeness)
        self._rule = rule
        self._verbose = verbose
        self._by_layer = by_layer
        self._recorder = Recorder()
        self._line = ""  # to be printed when the progress bar is complete
        self._has_warned = False
        self.advice: Advice | None = None
        self.history: list[Advice] = []

    @property
    def _optimizer(self):
        optimizer = self.model.optimizer
        return getattr(optimizer, "inner_optimizer", optimizer)

    def on_train_begin(self, logs=None):
        """Checks the model; keeps the records of an earlier `fit` of the same run."""
        _check_measurable(self.model, self._by_layer)
        if self._kappa is not None or self._rule != AUTO:
            check_kappa(self._optimizer, self._kappa or 1.0, self._rule)
        self._begin_fit()

    @_never_raises
    def _begin_fit(self):
        if isinstance(self.model, SVAGModel):
            self._recorder.watch = None
        elif self._recorder.watch is None or not self._recorder.watch.is_of(self.model):
            self._recorder.watch = Watch(self.model, self._by_layer)
        if self._recorder.watch is not None:
            self._recorder.watch.begin()
        self._recorder.begin_fit(self._optimizer)

    @_never_raises
    def on_epoch_begin(self, epoch, logs=None):
        """Schedules a reading before the first batch."""
        self._print_line()
        self._recorder.begin_epoch()

    # Not `on_train_batch_end`: for a callback that has it, Keras fetches the logs of every batch
    # from the device. `self.model` also makes JAX wait, so it is read only if needed.
    @_never_raises
    def on_train_batch_begin(self, batch, logs=None):
        """Takes a reading if one is due."""
        if self._recorder.is_due(batch):
            if self._recorder.watch is not None:
                self._recorder.watch.go_on()
            num_batches = (self.params or {}).get("steps")
            self._recorder.read(self.model, self._optimizer, batch, num_batches)

    @_never_raises
    def on_test_begin(self, logs=None):
        """Takes a reading before validation resets the metrics."""
        self._recorder.end_epoch(self.model, self._optimizer)

    @_never_raises
    def on_epoch_end(self, epoch, logs=None):
        """Updates the advice, and prints it as a line."""
        self._recorder.end_epoch(self.model, self._optimizer)
        if self._recorder.rows:
            self.advice = self._advise(epoch)
            self.history.append(self.advice)
            self._line = str(self.advice)
        if self._recorder.watch is not None:
            self._log_noise(self._recorder.watch, logs)
        if not self.params:  # not in `fit`, whose progress bar ends its line later
            self._print_line()

    def _log_noise(self, watch, logs):
        if logs is not None:
            logs.update(watch.logs())
        if not watch.saw_gradients and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "`BatchSizeAdvisor` gives no advice: `train_step` does not call `apply` or "
                "`apply_gradients` of model.optimizer (`stateless_apply` on JAX). Use "
                "keras_svag.noise.GradientNoiseScale in it.",
                stacklevel=2,
            )

    @_never_raises
    def on_train_end(self, logs=None):
        """Prints the details."""
        if self._recorder.watch is not None:
            self._recorder.watch.end()
        if self._verbose:
            first, *details = self.report().splitlines()
            is_printed = self.advice is not None and self.advice.is_known and not self._line
            print("\n".join(details if is_printed else [first, *details]), flush=True)
            self._line = ""

    def report(self) -> str:
        """Returns the latest advice with its evidence, and code for `kappa`, as a few lines."""
        return wording.NOTHING_KNOWN if self.advice is None else self.advice.describe()

    def plot(self, size: str = "notebook", style: dict | None = None) -> "Figure":
        """Returns a figure of noise scale, bound and learning rate over the steps of the run.

        Args:
            size: `"notebook"`, `"paper"`, `"paper_column"` or `"talk"`; the figure has two thirds
                of the width of such a page, or a whole column. Defaults to `"notebook"`.
            style: Dict of matplotlib's `rcParams` that override those of the package. Defaults to
                `None`.

        Raises:
            ValueError: If there is no such size.
        """
        return figure.draw(self.history, self._recorder.rows, size, style)

    def _advise(self, epoch):
        scale_invariant = self._scale_invariant
        if scale_invariant is None and self._x is not None:
            scale_invariant = is_scale_invariant(self.model, self._x)
        return advise(
            self._recorder.rows,
            self._optimizer,
            scale_invariant,
            self._kappa,
            self._rule,
            self._closeness,
            epoch=epoch,
        )

    def _print_line(self):
        if self._verbose and self._line:
            print(self._line, flush=True)
        self._line = ""
