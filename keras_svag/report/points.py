"""Points with intervals, in the styles of their outcomes."""

import math
from typing import Any

from keras_svag.report.drawing import COLORS, SGD_COLOR

OUTCOME_STYLES: dict[str, dict[str, Any]] = {
    "base": {"marker": "D", "mfc": SGD_COLOR, "mec": SGD_COLOR},
    "holds": {"marker": "o", "mfc": COLORS[0], "mec": COLORS[0]},
    "inconclusive": {"marker": "o", "mfc": "white", "mec": COLORS[0]},
    "fails": {"marker": "x", "mfc": COLORS[0], "mec": COLORS[0], "mew": 2},
}


def draw_point(axis, x, interval, outcome):
    """Draws an estimate with its interval, if it has one."""
    style = OUTCOME_STYLES[outcome]
    if math.isfinite(interval.ci_low):
        axis.plot([x, x], [interval.ci_low, interval.ci_high], color=style["mec"], lw=1)
    axis.plot([x], [interval.mean], ls="none", ms=6, zorder=3, **style)


def label_outcomes(axis, settings):
    """Adds the outcomes that occur to the legend of an axis."""
    for outcome in dict.fromkeys(setting["outcome"] for setting in settings):
        axis.plot([], [], ls="none", label=outcome, **OUTCOME_STYLES[outcome])


def mark_failures(axis, settings, x):
    """Writes at the top of an axis how many runs failed; `x` is the setting's place on it."""
    for setting in settings:
        if failed := setting["failed"]:
            axis.text(
                setting[x], 0.98, f"{failed} of {failed + setting['num_seeds']} runs failed",
                rotation=90, ha="center", va="top", size=7, color=SGD_COLOR,
                transform=axis.get_xaxis_transform(),
            )  # fmt: skip
