"""Advice on larger batches from the records of one run.

`keras_svag.callbacks.BatchSizeAdvisor` makes the records during `fit`. The bound is
`theory.lsr_max_kappa` (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5).
"""

import dataclasses
import math

import keras

from keras_svag._checks import shortest_float
from keras_svag._json import to_json
from keras_svag.optimizers import AmplificationMixin, scaling
from keras_svag.theory import (
    DEFAULT_CLOSENESS,
    PAPER,
    TIGHT,
    Interval,
    RunningMeans,
    find_window,
    lsr_max_kappa,
)
from keras_svag.theory.quantities import NOISE, SIGNAL
from keras_svag.theory.scaling_rules import AUTO, HEAVY_BALL

# Violated assumptions of the theorem, and those of which too little is known.
VIOLATED = {
    "SGD without momentum": "the optimizer is not SGD without momentum",
    "ell = 1": "ell is not 1",
    "no clipping, no overwritten weights": "gradients are clipped or EMA overwrites the weights",
    "weight decay": "there is no weight decay",
    "scale invariant network": "the network is not scale invariant",
    "balance of R": "N, G and weight decay do not explain the change of R",
    "equilibrium": "equilibrium is not reached",
}
UNKNOWN = {
    "scale invariant network": "scale invariance of the network is unknown",
    "equilibrium": "equilibrium cannot be tested",
}
_BOUND = (
    "The bound is one-sided: training changes above it and may change below it.",
    "The bound on the batch size is strictest when measured at a small base batch.",
)
_GUIDE = ("The guide is not a bound: training may stay the same above it or change below it.",)
# A long run has thousands of rows: the search for a window tries only so many starts.
_MAX_STARTS = 8


@dataclasses.dataclass(frozen=True)
class Advice:
    """The advice of one run. Its base batch is B with an SVAG optimizer, else the whole 2B."""

    epoch: int | None  # counted from 0; `None` outside of `fit`
    optimizer: str  # name of the class
    batch_size: int  # examples in the base batch
    fit_batch_size: int  # 2B, examples in one batch of `fit`
    learning_rate: float
    steps: tuple[int, int]  # first and last step of the window of all averages
    noise: Interval  # N at `batch_size`
    signal: Interval  # G
    noise_scale: Interval  # `batch_size N/G`
    max_kappa: dict[str, Interval]  # of "tight" and "paper"
    closeness: float  # C
    rule: str | None  # name of the scaling rule; `None` if none is known
    rule_limit: float  # the rule is defined for smaller factors only; may be infinite
    momentum: float  # b of the optimizer's `momentum`, 0 without
    assumptions: dict[str, bool | None]  # by name; `None` for unknown
    is_theorem: bool  # all assumptions hold; otherwise the bound is a heuristic
    in_equilibrium: bool | None  # `None` if that cannot be tested
    equilibrium: str  # the same as a sentence, with the reason
    kappa: float | None = None  # factor for which code was requested
    code: str | None = None  # Python expression: the optimizer at `kappa` times the batch size
    note: str = ""  # reason for `code=None`

    @property
    def is_bound(self):
        """True for SGD without momentum; `max_kappa` of other optimizers is a guide."""
        return bool(self.assumptions["SGD without momentum"])

    def __str__(self):
        """The advice as one sentence."""
        rule = "no scaling rule is known"
        if self.rule is not None:
            rule = f"{self.rule.replace('_', '-')} rule"
        limit = ""
        if math.isfinite(self.rule_limit):
            limit = f" (this rule requires a factor below {self.rule_limit:.3g})"
        qualifier = "at most" if self.is_bound else "about"
        momentum = ""
        if self.momentum:
            momentum = f"; kappa (1 - momentum) is {self._momentum_product():.2g} there"
        return (
            f"{self.optimizer} at batch size {self.batch_size}: batch size and learning rate "
            f"({rule}) can be scaled together by {qualifier} {self.max_kappa[TIGHT]}{limit} "
            f"before training changes by more than a factor of {self.closeness:.3g}, "
            f"{self._justification()}{momentum}; simple noise scale B N/G = {self.noise_scale}."
        )

    def _momentum_product(self, kappa=None):
        return (1 - self.momentum) * (self.max_kappa[TIGHT].mean if kappa is None else kappa)

    def _justification(self):
        if self.is_theorem:
            return "by a theorem"
        reasons = [
            (UNKNOWN if holds is None else VIOLATED).get(name)
            for name, holds in self.assumptions.items()
            if not holds
        ]
        kind = "as a heuristic" if self.is_bound else "as a guide, not a bound"
        return f"{kind} ({', '.join(filter(None, reasons))})"

    def describe(self):
        """Returns several lines: the sentence, the state of equilibrium, code to paste."""
        lines = [str(self), self.equilibrium]
        if self.kappa is not None:
            if self.kappa > self.max_kappa[TIGHT].mean:
                noun = "bound" if self.is_bound else "guide"
                lines.append(f"The requested factor {self.kappa:g} exceeds the {noun}.")
            size = f"fit(..., batch_size={round(self.kappa * self.fit_batch_size)})"
            lines.append(f"optimizer = {self.code}  # for {size}" if self.code else self.note)
        lines += _BOUND if self.is_bound else _GUIDE
        if self.momentum:
            lines.append(self._describe_momentum())
        return "\n".join(lines)

    def _describe_momentum(self):
        condition = "stay of order 1"
        if self.rule == HEAVY_BALL:
            condition += " and below 1"
        requested = ""
        if self.kappa is not None:
            value = self._momentum_product(self.kappa)
            requested = f" At the requested factor {self.kappa:g} it is {value:.2g}."
        return (
            f"For the rule to hold with momentum, kappa (1 - momentum) must {condition}.{requested}"
        )

    def to_json(self):
        """Returns a JSON-compatible dict."""
        return to_json(vars(self))


def halves_per_step(optimizer):
    """Returns the number of batches of B examples in one step of the run to be scaled."""
    # N is measured between two halves of B examples. SVAG models SGD at batch size B: one half. Any
    # other optimizer takes the mean of both halves, so its base batch is m = 2 halves, of noise
    # N/m; for independent halves
    # `|(g1 + g2)/2|^2 = <g1, g2> + |g1 - g2|^2 / 4 = G + N/2` in every single step.
    halves = 1 if isinstance(optimizer, AmplificationMixin) else 2
    return halves * (optimizer.gradient_accumulation_steps or 1)


def advise(
    rows,
    optimizer,
    batch_size,
    scale_invariant=None,
    kappa=None,
    rule=AUTO,
    closeness=DEFAULT_CLOSENESS,
    epoch=None,
):
    """Returns the `Advice` for rows in the format of `BatchSizeAdvisor`, `batch_size` being B."""
    if not rows:
        raise ValueError("`rows` must not be empty. Received: rows=[]. Train for an epoch first.")
    halves = halves_per_step(optimizer)
    rows = [{**row, NOISE: row[NOISE] / halves} for row in rows]
    window = find_equilibrium(rows, optimizer, scale_invariant)
    means = RunningMeans.from_rows(window.rows, start=window.start)
    base_size = halves * batch_size
    noise_scale = dataclasses.astuple(means.ratio())
    assumptions = _check_assumptions(optimizer, scale_invariant, window)
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
        noise=means.estimate(NOISE).interval(),
        signal=means.estimate(SIGNAL).interval(),
        noise_scale=Interval(*(base_size * value for value in noise_scale)),
        max_kappa={form: lsr_max_kappa(*batches, closeness, form) for form in (TIGHT, PAPER)},
        closeness=closeness,
        **_rule_and_limit(optimizer, rule),
        momentum=float(getattr(optimizer, "momentum", 0.0)),
        assumptions=assumptions,
        # The balance of R is evidence, no assumption: only a violation counts.
        is_theorem=all(holds for name, holds in assumptions.items() if name != "balance of R")
        and assumptions["balance of R"] is not False,
        in_equilibrium=window.reached,
        equilibrium=_describe_equilibrium(window, optimizer.weight_decay),
        kappa=kappa,
        code=code,
        note=note,
    )


def _rule_and_limit(optimizer, rule):
    try:
        limit = scaling.max_kappa(optimizer, rule)
        return {"rule": scaling.find_rule(optimizer, rule).name, "rule_limit": limit}
    except ValueError:
        return {"rule": None, "rule_limit": math.inf}


def _is_plain_sgd(optimizer):
    return isinstance(optimizer, keras.optimizers.SGD) and not optimizer.momentum


def _check_assumptions(optimizer, scale_invariant, window):
    clips = (optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm)
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    assumptions = {
        "SGD without momentum": _is_plain_sgd(optimizer),
        "no clipping, no overwritten weights": not any(clips) and not overwrites,
        "weight decay": bool(optimizer.weight_decay),
        "scale invariant network": scale_invariant,
        "balance of R": window.is_balanced,
        "equilibrium": window.reached,
    }
    if isinstance(optimizer, AmplificationMixin):
        assumptions["ell = 1"] = optimizer.ell == 1
    return assumptions


def find_equilibrium(rows, optimizer, scale_invariant=None):
    """Returns the `theory.Window` of a run in equilibrium, or the best there is."""
    return find_window(
        rows,
        optimizer.weight_decay or 0.0,
        ell=getattr(optimizer, "ell", 1.0),
        has_identity=_is_plain_sgd(optimizer) and scale_invariant is not False,
        max_starts=_MAX_STARTS,
    )


def _describe_equilibrium(window, weight_decay):
    if not window.drifts:  # there was no test
        return window.reason
    state = "In equilibrium" if window.reached else "Equilibrium not reached"
    if window.reached is None and not weight_decay:
        state = "No weight decay, hence no equilibrium to reach"
    return f"{state}: from step {window.start} on. {window.reason}"


def _code(optimizer, kappa, rule, learning_rate):
    """Returns the scaled optimizer as code, or `None` and the reason."""
    config = optimizer.get_config()
    try:
        if not isinstance(config["learning_rate"], dict):
            # A callback may have changed the learning rate since these records were made.
            config["learning_rate"] = shortest_float(learning_rate)
            optimizer = type(optimizer).from_config(config)
        return optimizer_code(scaling.scale_optimizer(optimizer, kappa, rule)), ""
    except ValueError as error:
        return None, str(error)


def optimizer_code(optimizer):
    """Returns a Python expression for an optimizer, with the arguments that are not defaults."""
    cls = type(optimizer)
    try:
        defaults = cls().get_config()
    except TypeError:  # a subclass with required arguments
        defaults = {}
    config = optimizer.get_config()
    del config["name"]  # usually made up by Keras
    arguments = {
        name: value
        for name, value in config.items()
        if name == "learning_rate" or name not in defaults or value != defaults[name]
    }
    listed = ", ".join(f"{name}={_format(value, name)}" for name, value in arguments.items())
    return f"{_qualified_name(cls)}({listed})"


def _format(value, name):
    if isinstance(value, float):
        value = shortest_float(value) if name == "learning_rate" else float(f"{value:.12g}")
    return repr(value)


def _qualified_name(cls):
    if cls.__module__.startswith("keras_svag."):
        return f"keras_svag.{cls.__name__}"
    is_of_keras = getattr(keras.optimizers, cls.__name__, None) is cls
    return f"keras.optimizers.{cls.__name__}" if is_of_keras else cls.__name__
