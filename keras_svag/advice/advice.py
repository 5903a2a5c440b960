"""`Advice`: how far the batch size of one run can be raised, and by which rule."""

import dataclasses
import math

import keras

from keras_svag._json import to_json
from keras_svag._keras import built_weights, decays_all
from keras_svag.advice import wording
from keras_svag.advice.code import scaled_code
from keras_svag.advice.readings import largest_batch
from keras_svag.advice.window import find_rows
from keras_svag.optimizers import AmplificationMixin, scaling
from keras_svag.theory import (
    DEFAULT_CLOSENESS,
    PAPER,
    TIGHT,
    Interval,
    RunningMeans,
    lsr_max_kappa,
)
from keras_svag.theory.assumptions import DECAY_OF_ALL
from keras_svag.theory.quantities import NOISE, SIGNAL
from keras_svag.theory.scaling_rules import AUTO


@dataclasses.dataclass(frozen=True)
class Advice:
    """The advice of one run. Its base batch is what one step of the optimizer averages over."""

    epoch: int | None  # counted from 0; `None` outside of `fit`
    optimizer: str  # name of the class
    batch_size: int  # examples in the base batch, with accumulation those of several batches
    fit_batch_size: int  # examples in one batch of `fit`
    learning_rates: tuple[float, float]  # of the first and the last averaged row
    rate_moves: bool  # the learning rate changes within these steps
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

    @property
    def is_known(self):
        """True if the records say anything about the bound."""
        # A product is infinite where a power would raise.
        bound, trivial = self.max_kappa[TIGHT], self.closeness * self.closeness
        has_interval = math.isfinite(self.noise_scale.ci_low)
        return has_interval and (math.isfinite(bound.mean) or bound.ci_low > trivial * (1 + 1e-9))

    def __str__(self):
        """The advice as one line."""
        return wording.describe_briefly(self)

    def describe(self):
        """Returns several lines: bound, evidence, equilibrium, and code to paste."""
        return wording.describe(self)

    def to_json(self):
        """Returns a JSON-compatible dict."""
        return to_json(vars(self))


def base_batch_size(optimizer, fit_batch_size):
    """Returns the number of examples that one step of the run to be scaled averages over."""
    # SVAG models SGD on one half of each batch. Any other optimizer takes the mean of both; for
    # independent halves `|(g1 + g2)/2|^2 = <g1, g2> + |g1 - g2|^2 / 4 = G + N/2` in every step,
    # where N is that of a half.
    is_svag = isinstance(optimizer, AmplificationMixin)
    size = fit_batch_size // 2 if is_svag else fit_batch_size
    return size * (optimizer.gradient_accumulation_steps or 1)


def advise(
    rows,
    optimizer,
    scale_invariant=None,
    kappa=None,
    rule=AUTO,
    closeness=DEFAULT_CLOSENESS,
    epoch=None,
):
    """Returns the `Advice` for the rows of a `Recorder`."""
    if not rows:
        raise ValueError("`rows` must not be empty. Received: rows=[]. Train for an epoch first.")
    fit_size = largest_batch(rows)
    base_size = base_batch_size(optimizer, fit_size)
    rows = [{**row, NOISE: row[NOISE] / base_size} for row in rows]
    has_identity = _is_plain_sgd(optimizer) and scale_invariant is not False
    has_identity = has_identity and _decays_all(optimizer)
    window, rate_moves = find_rows(rows, optimizer, has_identity)
    means = RunningMeans.from_rows(window.rows, start=window.start)
    noise_scale = dataclasses.astuple(means.ratio())
    assumptions = _check_assumptions(optimizer, scale_invariant, window)
    rates = [row.get("last_rate", row["learning_rate"]) for row in window.rows]
    code, note = (None, "") if kappa is None else scaled_code(optimizer, kappa, rule, rates[-1])
    batches = means.batches(NOISE, SIGNAL)
    return Advice(
        epoch=epoch,
        optimizer=type(optimizer).__name__,
        batch_size=base_size,
        fit_batch_size=fit_size,
        learning_rates=(rates[0], rates[-1]),
        rate_moves=rate_moves,
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


def _decays_all(optimizer):
    weights = built_weights(optimizer) if optimizer.built else []
    return not optimizer.weight_decay or decays_all(optimizer, weights)


def _check_assumptions(optimizer, scale_invariant, window):
    clips = (getattr(optimizer, name) for name in scaling.CLIPPING)
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    assumptions = {
        "SGD without momentum": _is_plain_sgd(optimizer),
        "no clipping, no overwritten weights": not any(clips) and not overwrites,
        "weight decay": bool(optimizer.weight_decay),
        "scale invariant network": scale_invariant,
        "balance of R": window.is_balanced,
        "equilibrium": window.reached,
    }
    if not _decays_all(optimizer):
        assumptions[DECAY_OF_ALL] = False
    if isinstance(optimizer, AmplificationMixin):
        assumptions["ell = 1"] = optimizer.ell == 1
    return assumptions


def _describe_equilibrium(window, weight_decay):
    if not window.drifts:  # there was no test
        return window.reason
    state = "In equilibrium" if window.reached else "Equilibrium not reached"
    if window.reached is None and not weight_decay:
        state = "No weight decay, hence no equilibrium to reach"
    return f"{state}: from step {window.start} on. {window.reason}"
