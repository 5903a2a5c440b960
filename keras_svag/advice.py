"""How far batch size and learning rate can be scaled together: what the records of one run say.

Functions of records and an optimizer; `keras_svag.callbacks.BatchSizeAdvisor` records them during
`fit`. The bound is that of `keras_svag.validity.lsr_max_kappa` (Li, Malladi, Arora 2021, arXiv
2102.12470, section 5), the equilibrium that of `keras_svag.equilibrium`.
"""

import dataclasses
import math

import keras
import numpy as np

from keras_svag._json import to_json
from keras_svag.equilibrium import (
    MIN_ROWS,
    candidate_starts,
    constant_rate_stretch,
    is_steady,
    relaxation_steps,
    shows_no_drift,
)
from keras_svag.optimizers import AmplificationMixin, scaling
from keras_svag.statistics import NOISE, SIGNAL, RunningMeans, equilibrium_test, relative_drift
from keras_svag.theory.scaling_rules import AUTO, HEAVY_BALL, LINEAR, SQUARE_ROOT
from keras_svag.validity import (
    CONFIDENCE,
    DEFAULT_CLOSENESS,
    PAPER,
    QUANTITIES,
    TIGHT,
    Interval,
    lsr_max_kappa,
)

# What the theorem assumes; a word for each where it does not hold, and where that is not known.
PREMISES = {
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
# Starts of a stretch that are tried: a long run has thousands of rows.
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
        learning_rate: that of the stretch.
        steps: tuple, first and last step of the stretch over which is averaged.
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
            PREMISES[name][value is None] for name, value in self.premises.items() if not value
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
    stretch = find_stretch(rows, optimizer, scale_invariant)
    means = RunningMeans.from_rows(stretch.rows, start=stretch.start)
    base_size = halves * batch_size
    premises = _premises(optimizer, scale_invariant, stretch)
    learning_rate = stretch.rows[-1]["learning_rate"]
    code, note = (None, "") if kappa is None else _code(optimizer, kappa, rule, learning_rate)
    batches = means.batches(NOISE, SIGNAL)
    return Advice(
        epoch=epoch,
        optimizer=type(optimizer).__name__,
        batch_size=base_size,
        fit_batch_size=2 * batch_size,
        learning_rate=learning_rate,
        steps=(stretch.start, stretch.rows[-1]["step"]),
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
        in_equilibrium=stretch.reached,
        equilibrium=stretch.reason,
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


def _premises(optimizer, scale_invariant, stretch):
    clips = (optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm)
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    premises = {
        "SGD without momentum": _is_plain_sgd(optimizer),
        "no clipping, no overwritten weights": not any(clips) and not overwrites,
        "weight decay": bool(optimizer.weight_decay),
        "scale invariant network": scale_invariant,
        "balance of R": stretch.is_balanced,
        "equilibrium": stretch.reached,
    }
    if isinstance(optimizer, AmplificationMixin):
        premises["ell = 1"] = optimizer.ell == 1
    return premises


@dataclasses.dataclass(frozen=True)
class Stretch:
    """The part of a run over which is averaged.

    Attributes:
        rows: its rows.
        start: the step at which the first of them begins.
        reached: whether it is in equilibrium: True, False, or `None` where that cannot be told.
        is_balanced: whether N, G and weight decay account for the change of R; `None` where that
            cannot be told, as with any optimizer but SGD without momentum.
        reason: what was found, in words.
    """

    rows: list
    start: int
    reached: bool | None
    is_balanced: bool | None
    reason: str


def find_stretch(rows, optimizer, scale_invariant=None):
    """The stretch of a run that is in equilibrium, or the best there is.

    It lies in the longest stretch at one learning rate. With weight decay lambda, three relaxation
    times `1 / (2 eta lambda)` of R are left out. It starts as early as it can such that N, G and R
    do not drift until the end, a quarter of the stretch at least; for SGD without momentum R must
    also agree with its equilibrium identity, if the loss is scale invariant (`is_steady`). Where
    there is no such stretch, it is the second half of what there is at one learning rate.

    Args:
        rows: as for `advise`, with the noise of one step of the run that is to be scaled.
        optimizer: the Keras optimizer.
        scale_invariant: whether the network is, or `None` if that is not known.

    Returns:
        A `Stretch`.
    """
    first, stop = constant_rate_stretch(rows)
    if stop - first <= MIN_ROWS:
        if len(rows) <= 2 * MIN_ROWS:
            reason = f"Equilibrium cannot be told yet from {stop - first} readings."
            return _without_test(rows[first:stop], reason)
        reason = "Equilibrium not reached: the learning rate never stays the same for long."
        return _without_test(rows, reason)
    decay = optimizer.weight_decay or 0.0
    ell = getattr(optimizer, "ell", 1.0)
    rate = rows[first]["learning_rate"]
    wait = relaxation_steps(rate, decay, ell) if decay and rate > 0 else 0.0
    starts = candidate_starts(rows, first, stop, wait)
    if not starts:
        begin = rows[first - 1]["step"] if first else 0
        reason = (
            f"Equilibrium not reached: R approaches it over some {wait:.3g} steps at this learning "
            "rate (3 / (2 eta lambda)), and a quarter of the run should lie beyond; "
            f"{rows[stop - 1]['step'] - begin} steps are taken."
        )
        return _without_test(rows[first:stop], reason)
    test = _test_balance if _has_identity(optimizer, decay, scale_invariant) else _test_drift
    for start in _some(starts):
        tested = test(rows[start:stop], decay, ell)
        if tested.reached is not False:
            return tested
    return test(rows[min((starts[0] + stop) // 2, starts[-1] + 1) : stop], decay, ell)


def _has_identity(optimizer, decay, scale_invariant):
    return decay and _is_plain_sgd(optimizer) and scale_invariant is not False


def _some(starts):
    places = np.linspace(0, len(starts) - 1, _NUM_STARTS)
    return [starts[i] for i in sorted({int(place) for place in places})]


def _without_test(rows, reason):
    half = rows[len(rows) // 2 :]
    before = rows[len(rows) // 2 - 1]["step"] if len(rows) > 1 else 0
    return Stretch(half, before, False, None, reason)


def _percent(interval):
    low, high = 100 * interval.ci_low, 100 * interval.ci_high
    return f"{100 * interval.mean:.2g} % [{low:.2g}, {high:.2g}]"


# Of a stretch that is tested the first row only tells where it starts.


def _test_balance(rows, decay, ell):
    test = equilibrium_test(rows, decay, ell=ell)
    return _tested(rows, test.drifts, is_steady(rows, test, decay, ell), test.is_balanced, decay)


def _test_drift(rows, decay, ell):
    steps = np.diff([row["step"] for row in rows])
    drifts = {name: relative_drift([row[name] for row in rows[1:]], steps) for name in QUANTITIES}
    return _tested(rows, drifts, shows_no_drift(drifts), None, decay)


def _tested(rows, drifts, steady, is_balanced, decay):
    start = rows[0]["step"]
    norm, noise, signal = (_percent(drifts[name]) for name in QUANTITIES)
    facts = f"from step {start} on R changes by {norm}, N by {noise}, G by {signal}."
    reached, words = False, "Equilibrium not reached:"
    if steady:
        # Without decay nothing holds R where it is.
        reached = True if decay else None
        words = "In equilibrium:" if decay else "No weight decay, so no equilibrium to wait for:"
    return Stretch(rows[1:], start, reached, is_balanced, f"{words} {facts}")


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
