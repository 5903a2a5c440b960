"""Outcomes of comparisons, as results and files have them."""

from collections.abc import Mapping, Sequence
from typing import Any

# Is the SDE a valid model?
VALID, INVALID = "valid", "invalid"
# Does the linear scaling rule hold? "base" marks the runs that all others are compared with.
HOLDS, FAILS, BASE = "holds", "fails", "base"
# Do two kinds of noise train alike?
EQUIVALENT, DIFFERENT = "equivalent", "different"
# The answer to any of these questions where the intervals are too wide.
INCONCLUSIVE = "inconclusive"


def so_far(outcome: str) -> str:
    """Words for an outcome that further runs may change."""
    return "undecided" if outcome == INCONCLUSIVE else f"{outcome} so far"


def describe_observed(observed: Mapping[str, Any]) -> str:
    """Words for what `observed_max_kappa` returns."""
    value, failure = observed["value"], observed["first_failure"]
    if value is None:
        return "no run at the base batch size finished"
    if value == 1 and failure is None:
        return "undecided at all larger batch sizes"
    fails = "no failure seen" if failure is None else f"first fails at {failure:g}"
    return f"holds up to {value:g}, {fails}"


def overall_outcome(settings: Sequence[Mapping[str, Any]]) -> str:
    """Returns "fails" if scaling fails at any larger batch size, "holds" if it does at all."""
    outcomes = {s["outcome"] for s in settings if s["kappa"] > 1} - {BASE}
    if FAILS in outcomes:
        return FAILS
    return HOLDS if outcomes == {HOLDS} else INCONCLUSIVE


def observed_max_kappa(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Largest kappa up to which scaling holds, and where it fails or is undecided."""
    above = [setting for setting in settings if setting["kappa"] > 1]
    has_base = any(s["kappa"] == 1 and s["num_seeds"] for s in settings)
    value = 1.0 if has_base else None
    for setting in above:
        if setting["outcome"] != HOLDS:
            break
        value = setting["kappa"]
    failures = [setting["kappa"] for setting in above if setting["outcome"] == FAILS]
    return {
        "value": value,
        "first_failure": min(failures, default=None),
        "inconclusive": [s["kappa"] for s in above if s["outcome"] == INCONCLUSIVE],
    }
