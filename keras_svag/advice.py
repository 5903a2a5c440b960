"""How far batch size and learning rate can be scaled together: what the records of one run say.

Functions of records and an optimizer; `keras_svag.callbacks.BatchSizeAdvisor` records them during
`fit`. The bound is that of `keras_svag.theory.lsr_max_kappa` (Li, Malladi, Arora 2021, arXiv
2102.12470, section 5), the equilibrium that of `keras_svag.theory`.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_svag._json import to_json
from keras_svag.optimizers import AmplificationMixin, scaling
from keras_svag.theory import (
    CONFIDENCE,
    DEFAULT_CLOSENESS,
    PAPER,
    TIGHT,
    Interval,
    RunningMeans,
    find_window,
    lsr_max_kappa,
)
from keras_svag.theory.quantities import NOISE, SIGNAL
from keras_svag.theory.scaling_rules import AUTO, HEAVY_BALL, LINEAR, SQUARE_ROOT

# What the theorem assumes; a word for each where it does not hold, and where that is not known.
ASSUMPTIONS = {
    "SGD without momentum": ("the optimizer is not SGD without momentum", ""),
    "ell = 1": ("ell is not 1", ""),
    "no clipping, no overwritten weights": ("gradients are clipped or weights overwritten", ""),
    "weight decay": ("there is no weight decay", ""),
    "scale invariant network": (
        "the network is not scale invariant",
        "whether the network is scale invariant is not known",
    ),
    "balance of R": ("N, G and weight decay do not account for the change of R", ""),
    "equilibrium": ("equilibrium is not reached", "equilibrium cannot be told"),
}
RULE_WORDS = {
    LINEAR: "linear rule",
    HEAVY_BALL: "heavy-ball rule",
    SQUARE_ROOT: "square-root rule",
}
# Starts of a window that are tried: a long run has thousands of rows.
_NUM_STARTS = 8


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the records of a run say about larger batches.

    Attributes:
        epoch: the epoch, counted from 0, after which this was said; `None` outside of `fit`.
        optimizer: name of the optimizer's class.
        batch_size: examples in one step of the run that is to be scaled: B with an SVAG optimizer,
            the whole batch of 2B with any other.
        fit_batch_size: examples in one batch of `fit`, 2B.
        learning_rate: that of the window.
        steps: tuple, first and last step of the window over which is averaged.
        noise: `Interval` of N, the trace of the covariance of the gradient at `batch_size`.
        signal: `Interval` of G, as logged.
        noise_scale: `Interval` of the simple noise scale, `batch_size N/G`.
        max_kappa: dict from `"tight"` and `"paper"` to the `Interval` of the largest factor.
        closeness: C, the factor within which training is to stay the same.
        rule: name of the scaling rule, or `None` where none is known.
        rule_limit: factor that the rule cannot reach (`scaling.max_kappa`); may be infinite.
        premises: dict from what the theorem assumes to True, False, or `None` for not known.
        is_theorem: whether all of them hold. Otherwise the bound is a heuristic.
        in_equilibrium: True, False, or `None` where that cannot be told.
        equilibrium: what was found, in words.
        kappa: factor asked for, or `None`.
        code: Python expression for the optimizer at `kappa` times the batch size, or `None`.
        note: why there is no code, or an empty string.
    """

    epoch: int | None
    optimizer: str
    batch_size: int
    fit_batch_size: int
    learning_rate: float
    steps: tuple
    noise: Interval
    signal: Interval
    noise_scale: Interval
    max_kappa: dict
    closeness: float
    rule: str | None
    rule_limit: float
    premises: dict
    is_theorem: bool
    in_equilibrium: bool | None
    equilibrium: str
    kappa: float | None = None
    code: str | None = None
    note: str = ""

    def __str__(self):
        """The advice in one sentence."""
        rule = RULE_WORDS.get(self.rule, "no scaling rule is known")
        limit = ""
        if math.isfinite(self.rule_limit):
            limit = f" (the rule itself ends below {self.rule_limit:.3g})"
        return (
            f"{self.optimizer} at batch size {self.batch_size}: batch size and learning rate "
            f"({rule}) can be scaled together by at most {self.max_kappa[TIGHT]}{limit} "
            f"before training changes by more than a factor {self.closeness:.3g}, "
            f"{self._standing()}; simple noise scale B N/G = {self.noise_scale}."
        )

    def _standing(self):
        """Whether the bound is a theorem, and if not, why."""
        if self.is_theorem:
            return "by a theorem"
        reasons = (
            ASSUMPTIONS[name][value is None] for name, value in self.premises.items() if not value
        )
        return f"as a heuristic ({', '.join(filter(None, reasons))})"

    def describe(self):
        """The advice in several lines: the sentence, equilibrium, code to paste."""
        lines = [str(self), self.equilibrium]
        if self.kappa is not None:
            if self.kappa > self.max_kappa[TIGHT].mean:
                lines.append(f"The factor {self.kappa:g} that was asked for lies beyond the bound.")
            size = f"fit(..., batch_size={round(self.kappa * self.fit_batch_size)})"
            lines.append(f"optimizer = {self.code}  # for {size}" if self.code else self.note)
        lines.append(
            "The bound is one-sided: beyond it training changes, below it nothing follows."
        )
        return "\n".join(lines)

    def to_json(self):
        """Returns a dict that JSON can hold."""
        names = [field.name for field in dataclasses.fields(self)]
        return to_json({name: getattr(self, name) for name in names})


def halves_per_step(optimizer):
    """Batches of B examples that one step of the run to be scaled consumes.

    N is measured between two halves of B examples. SVAG models SGD at batch size B: one half. Any
    other optimizer takes the mean of both halves (and of `gradient_accumulation_steps` batches), so
    its base batch is m = 2 halves, of noise N/m; for independent halves
    `|(g1 + g2)/2|^2 = <g1, g2> + |g1 - g2|^2 / 4 = G + N/2` in every single step.

    Args:
        optimizer: a Keras optimizer, not one for loss scaling.

    Returns:
        An int.

    Example:

    >>> halves_per_step(keras.optimizers.Adam())
    2
    """
    if isinstance(optimizer, AmplificationMixin):
        return 1
    return 2 * (optimizer.gradient_accumulation_steps or 1)


def advise(
    rows,
    optimizer,
    batch_size,
    scale_invariant=None,
    kappa=None,
    rule=AUTO,
    closeness=DEFAULT_CLOSENESS,
    confidence=CONFIDENCE,
    epoch=None,
):
    """What the records of a run say about larger batches.

    Args:
        rows: list of dicts in order of time, each with `step` at its end, `weight_norm` there,
            `learning_rate`, and `gradient_noise` and `gradient_signal`, means over the steps since
            the row before it, as an `SVAGModel` logs them.
        optimizer: the Keras optimizer of the run.
        batch_size: B, examples in one half; `fit` was given 2B.
        scale_invariant: whether the network is, or `None` if that is not known.
        kappa: factor for which code is wanted, or `None`.
        rule: see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        confidence: Float in (0, 1). Defaults to `0.95`.
        epoch: for the record. Defaults to `None`.

    Returns:
        An `Advice`.

    Raises:
        ValueError: if `rows` is empty or an argument is out of range.

    Example:

    >>> row = {"weight_norm": 9.0, "gradient_noise": 6.0, "gradient_signal": 1.0}
    >>> rows = [{"step": 10 * i, "learning_rate": 0.1, **row} for i in range(1, 21)]
    >>> advice = advise(rows, keras.optimizers.SGD(0.1), batch_size=4)
    >>> advice.batch_size, advice.noise_scale.mean  # the whole batch, of half the noise
    (8, 24.0)
    >>> round(advice.max_kappa["tight"].mean, 6)  # C^2 + (C^2 - 1) N/G = 2 + 3
    5.0
    """
    if not rows:
        raise ValueError("`rows` must not be empty. Received: rows=[]. Train for an epoch first.")
    halves = halves_per_step(optimizer)
    rows = [{**row, NOISE: row[NOISE] / halves} for row in rows]
    window = find_equilibrium(rows, optimizer, scale_invariant)
    means = RunningMeans.from_rows(window.rows, start=window.start)
    base_size = halves * batch_size
    premises = _premises(optimizer, scale_invariant, window)
    learning_rate = window.rows[-1]["learning_rate"]
    code, note = (None, "") if kappa is None else _code(optimizer, kappa, rule, learning_rate)
    batches = means.batches(NOISE, SIGNAL)
    return Advice(
        epoch=epoch,
        optimizer=type(optimizer).__name__,
        batch_size=base_size,
        fit_batch_size=2 * batch_size,
        learning_rate=learning_rate,
        steps=(window.start, window.stop),
        noise=means.estimate(NOISE).interval(confidence),
        signal=means.estimate(SIGNAL).interval(confidence),
        noise_scale=_scale(means.ratio(confidence=confidence), base_size),
        max_kappa={
            form: lsr_max_kappa(*batches, closeness, form, confidence) for form in (TIGHT, PAPER)
        },
        closeness=closeness,
        **_rule_of(optimizer, rule),
        premises=premises,
        # The balance of R is evidence beside the premises: only against counts.
        is_theorem=all(v for name, v in premises.items() if name != "balance of R")
        and premises.get("balance of R") is not False,
        in_equilibrium=window.reached,
        equilibrium=_describe_equilibrium(window, optimizer.weight_decay),
        kappa=kappa,
        code=code,
        note=note,
    )


def _scale(interval, factor):
    return Interval(*(factor * end for end in dataclasses.astuple(interval)))


def _rule_of(optimizer, rule):
    try:
        limit = scaling.max_kappa(optimizer, rule)
        return {"rule": scaling.find_rule(optimizer, rule).name, "rule_limit": limit}
    except ValueError:
        return {"rule": None, "rule_limit": math.inf}


def _is_plain_sgd(optimizer):
    return isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum


def _premises(optimizer, scale_invariant, window):
    clips = (optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm)
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    premises = {
        "SGD without momentum": _is_plain_sgd(optimizer),
        "no clipping, no overwritten weights": not any(clips) and not overwrites,
        "weight decay": bool(optimizer.weight_decay),
        "scale invariant network": scale_invariant,
        "balance of R": window.is_balanced,
        "equilibrium": window.reached,
    }
    if isinstance(optimizer, AmplificationMixin):
        premises["ell = 1"] = optimizer.ell == 1
    return premises


def find_equilibrium(rows, optimizer, scale_invariant=None):
    """The window of a run that is in equilibrium, or the best there is (`theory.find_window`).

    Args:
        rows: as for `advise`, with the noise of one step of the run that is to be scaled.
        optimizer: the Keras optimizer.
        scale_invariant: whether the network is, or `None` if that is not known.

    Returns:
        A `keras_svag.theory.Window`.
    """
    return find_window(
        rows,
        optimizer.weight_decay or 0.0,
        ell=getattr(optimizer, "ell", 1.0),
        has_identity=_is_plain_sgd(optimizer) and scale_invariant is not False,
        max_starts=_NUM_STARTS,
    )


def _describe_equilibrium(window, weight_decay):
    if not window.drifts:  # there was no test
        return window.reason
    words = "In equilibrium" if window.reached else "Equilibrium not reached"
    if window.reached is None and not weight_decay:
        words = "No weight decay, so no equilibrium to wait for"
    return f"{words}: from step {window.start} on. {window.reason}"


def _code(optimizer, kappa, rule, learning_rate):
    """The scaled optimizer as code, and why there is none."""
    config = optimizer.get_config()
    try:
        if not isinstance(config["learning_rate"], dict):
            # A callback may have changed the learning rate since these records were made.
            config["learning_rate"] = _short(learning_rate, "learning_rate")
            optimizer = type(optimizer).from_config(config)
        return optimizer_code(scaling.scale_optimizer(optimizer, kappa, rule)), ""
    except ValueError as error:
        return None, str(error)


def optimizer_code(optimizer):
    """Python code that builds an optimizer, with the arguments that are not Keras' defaults.

    Args:
        optimizer: a Keras or SVAG optimizer whose learning rate is a number.

    Returns:
        A string, an expression in which `keras` and `keras_svag` are the packages.

    Example:

    >>> optimizer_code(keras.optimizers.SGD(0.8, weight_decay=0.005))
    'keras.optimizers.SGD(learning_rate=0.8, weight_decay=0.005)'
    """
    cls = type(optimizer)
    try:
        defaults = cls().get_config()
    except TypeError:  # a subclass with arguments of its own
        defaults = {}
    config = optimizer.get_config()
    del config["name"]  # most often made up by Keras
    arguments = {
        name: _short(value, name)
        for name, value in config.items()
        if name == "learning_rate" or name not in defaults or value != defaults[name]
    }
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{_path_of(cls)}({listed})"


def _short(value, name):
    if not isinstance(value, float):
        return value
    # The learning rate is kept in float32: the shortest number that gives the same.
    return float(str(np.float32(value)) if name == "learning_rate" else f"{value:.12g}")


def _path_of(cls):
    if cls.__module__.startswith("keras_svag."):
        return f"keras_svag.{cls.__name__}"
    is_of_keras = getattr(keras.optimizers, cls.__name__, None) is cls
    return f"keras.optimizers.{cls.__name__}" if is_of_keras else cls.__name__
