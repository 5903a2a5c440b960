"""Points with intervals, in the styles of their outcomes."""

from typing import Any

import matplotlib

from keras_svag.report.drawing import COLORS, SGD_COLOR
from keras_svag.report.series import draw_bar, tag
from keras_svag.report.style import line_width

OUTCOME_STYLES: dict[str, dict[str, Any]] = {
    "base": {"marker": "D", "mfc": SGD_COLOR, "mec": SGD_COLOR},
    "holds": {"marker": "o", "mfc": COLORS[0], "mec": COLORS[0]},
    "inconclusive": {"marker": "o", "mfc": "white", "mec": COLORS[0]},
    "fails": {"marker": "x", "mfc": COLORS[0], "mec": COLORS[0]},
}
# The series of the points, each of which has the style of its outcome.
POINTS = "mean over seeds"


def draw_point(axis, x, interval, outcome, name=POINTS):
    """Draws an estimate with its interval, if it has one, as part of a series."""
    style = OUTCOME_STYLES[outcome]
    draw_bar(axis, x, interval, name, style["mec"])
    axis.plot([x], [interval.mean], ls="none", zorder=3, **_sizes(), **style, **tag(name))


def _sizes():
    return {"mew": line_width(), "ms": 1.2 * matplotlib.rcParams["lines.markersize"]}


def label_outcomes(axis, settings):
    """Adds the outcomes that occur to the legend of an axis."""
    for outcome in dict.fromkeys(setting["outcome"] for setting in settings):
        axis.plot([], [], ls="none", label=outcome, **_sizes(), **OUTCOME_STYLES[outcome])


def mark_failures(axis, settings, x):
    """Writes at the top of an axis how many runs failed; `x` is the setting's place on it."""
    for setting in settings:
        if failed := setting["failed"]:
            axis.text(
                setting[x], 0.98, f"{failed} of {failed + setting['num_seeds']} runs failed",
                rotation=90, ha="center", va="top", size="small", color=SGD_COLOR,
                transform=axis.get_xaxis_transform(),
            )  # fmt: skip
