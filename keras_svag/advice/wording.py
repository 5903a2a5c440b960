"""Advice in words: one line for an epoch, and the details."""

import math

from keras_svag.theory import TIGHT, assumptions
from keras_svag.theory.scaling_rules import HEAVY_BALL

# Violated assumptions of the theorem, and those of which too little is known.
VIOLATED = {
    **assumptions.VIOLATED,
    "ell = 1": "ell is not 1",
    "no clipping, no overwritten weights": "gradients are clipped or EMA overwrites the weights",
    "balance of R": "N, G and weight decay do not explain the change of R",
    "equilibrium": "equilibrium is not reached",
}
UNKNOWN = {
    "scale invariant network": "scale invariance of the network is unknown",
    "equilibrium": "equilibrium cannot be tested",
}
_BOUND = (
    "The bound is one-sided: training changes above it and may change below it. It is strictest "
    "when measured at a small base batch."
)
_GUIDE = "The guide is not a bound: training may stay the same above it or change below it."
NOTHING_KNOWN = (
    "batch size: no advice yet. Gradient noise and signal take several readings, one every 25 "
    "batches or at the end of an epoch, to tell apart. Train for longer."
)


def amount(value):
    """Returns a positive number with about two digits."""
    if math.isinf(value):
        return "unbounded"
    if 1 <= value < 9.95:
        return f"{value:.1f}"
    return f"{value:.0f}" if 9.95 <= value < 1e6 else f"{value:.2g}"


def interval_words(interval):
    """Returns the ends of an interval of positive numbers in words."""
    low, high = interval.ci_low, interval.ci_high
    if math.isinf(low) or low != low:
        return "unknown" if math.isinf(high) else f"{amount(high)} or less"
    return f"{amount(low)} or more" if math.isinf(high) else f"{amount(low)} to {amount(high)}"


def _bound(advice):
    bound = advice.max_kappa[TIGHT]
    if math.isinf(bound.mean):
        return f"no limit seen (95 %: x {interval_words(bound)})"
    words = f"{amount(bound.mean)} at most" if advice.is_bound else f"about {amount(bound.mean)}"
    return f"x {words} (95 %: {interval_words(bound)})"


def describe_briefly(advice):
    """Returns one line, empty if nothing is known yet."""
    if not advice.is_known:
        return ""
    parts = [_bound(advice), _kind(advice)]
    if advice.rate_moves:
        first, last = advice.steps
        parts.append(f"learning rate moves, steps {first} to {last}")
    elif advice.in_equilibrium is False:
        parts.append("not in equilibrium")
    if advice.rule is None:
        parts.append("no scaling rule")
    elif advice.max_kappa[TIGHT].mean >= advice.rule_limit:
        parts.append(f"rule ends at x {amount(advice.rule_limit)}")
    if advice.momentum and math.isfinite(advice.max_kappa[TIGHT].mean):
        parts.append(f"kappa (1 - momentum) = {_momentum_product(advice):.2g}")
    line = f"batch size: {', '.join(parts)}"
    scale = advice.noise_scale
    if math.isfinite(scale.mean):
        return f"{line}; noise scale {amount(scale.mean)}"
    return f"{line}; noise scale {interval_words(scale)}"


def _kind(advice):
    if advice.is_theorem:
        return "theorem"
    return "heuristic" if advice.is_bound else "a guide"


def _momentum_product(advice, kappa=None):
    return (1 - advice.momentum) * (advice.max_kappa[TIGHT].mean if kappa is None else kappa)


def describe(advice):
    """Returns the details as a few lines."""
    if not advice.is_known:
        return NOTHING_KNOWN
    lines = [str(advice)]
    evidence = f"Measured over steps {advice.steps[0]} to {advice.steps[1]} of {advice.optimizer} "
    evidence += f"at batch size {advice.batch_size}"
    if advice.batch_size != advice.fit_batch_size:
        evidence += f" (batches of {advice.fit_batch_size} in fit)"
    evidence += f", {_rates(advice)}."
    lines.append(evidence)
    lines.append(
        f"The factor is that beyond which R, G or B N change by more than {advice.closeness:.3g} "
        f"times, if batch size and hyperparameters are scaled together ({_rule(advice)}). "
        f"{_justification(advice)}"
    )
    lines.append(
        f"Simple noise scale B N/G: {amount(advice.noise_scale.mean)} "
        f"(95 %: {interval_words(advice.noise_scale)})."
    )
    lines.append(advice.equilibrium)
    if advice.kappa is not None:
        lines += _describe_request(advice)
    lines.append(_BOUND if advice.is_bound else _GUIDE)
    if advice.momentum:
        lines.append(_describe_momentum(advice))
    return "\n".join(lines)


def _rates(advice):
    first, last = advice.learning_rates
    if advice.rate_moves:
        return f"learning rate {first:.3g} to {last:.3g}"
    return f"learning rate {last:.3g}"


def _rule(advice):
    if advice.rule is None:
        return "no scaling rule is known"
    rule = f"{advice.rule.replace('_', '-')} rule"
    if math.isfinite(advice.rule_limit):
        return f"{rule}, which requires a factor below {advice.rule_limit:.3g}"
    return rule


def _justification(advice):
    if advice.is_theorem:
        return "It is a theorem here."
    reasons = [
        (UNKNOWN if holds is None else VIOLATED).get(name)
        for name, holds in advice.assumptions.items()
        if not holds
    ]
    kind = "heuristic" if advice.is_bound else "guide, not a bound"
    return f"It is a {kind}: {', '.join(filter(None, reasons))}."


def _describe_request(advice):
    lines = []
    if advice.kappa > advice.max_kappa[TIGHT].mean:
        noun = "bound" if advice.is_bound else "guide"
        lines.append(f"The requested factor {advice.kappa:g} exceeds the {noun}.")
    size = f"fit(..., batch_size={round(advice.kappa * advice.fit_batch_size)})"
    lines.append(f"optimizer = {advice.code}  # for {size}" if advice.code else advice.note)
    return lines


def _describe_momentum(advice):
    condition = "stay of order 1"
    if advice.rule == HEAVY_BALL:
        condition += " and below 1"
    requested = ""
    if advice.kappa is not None:
        value = _momentum_product(advice, advice.kappa)
        requested = f" At the requested factor {advice.kappa:g} it is {value:.2g}."
    return f"For the rule to hold with momentum, kappa (1 - momentum) must {condition}.{requested}"
