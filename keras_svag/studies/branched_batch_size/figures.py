"""Figures of the study: the loss against the factor on the batch size, and the curves."""

import functools
import math

from keras_svag.engine.spec import BRANCH
from keras_svag.report.drawing import (
    COLORS,
    SGD_COLOR,
    Drawing,
    finished,
    load_curves,
    mean_ignoring_gaps,
    ordered_color,
)
from keras_svag.report.labels import EXAMPLES, KAPPA
from keras_svag.report.points import draw_point, label_outcomes
from keras_svag.report.series import draw_curve, label_ends
from keras_svag.report.style import add_legend, line_width, panels
from keras_svag.report.ticks import set_binary_scale, set_log_scale
from keras_svag.theory import Interval


def build_figures(study, table, details, workdir):
    """Returns a list of `Drawing`: loss against factor, and the curves."""
    return [
        Drawing(
            "branches",
            "Loss of the branches against the factor on the batch size",
            "Training loss of each branch over that of the same seed at factor 1, averaged after "
            f"the recovery. Gray: up to {100 * study.tolerance:g} % higher. Filled: holds; hollow: "
            "inconclusive; cross: fails. Green: the critical factor with its 95 % interval over "
            "seeds. Dashed: C² + (C² - 1) N/G at the branch point, with its interval.",
            functools.partial(draw_ratios, details),
        ),
        Drawing(
            "branch_curves",
            "Training loss before and after the branch point",
            "Mean over seeds against examples seen. Gray: before the branch point; dotted: the end "
            "of the recovery. Orange: the base; the larger the batch, the darker.",
            functools.partial(draw_curves, workdir, table, details),
        ),
    ]


def draw_ratios(verdict):
    """Draws the loss of each factor over that of the base."""
    figure, [axis] = panels(1)
    settings = verdict["settings"]
    axis.axhspan(1, 1 + verdict["tolerance"], color="0.5", alpha=0.15, lw=0)
    axis.axhline(1, color="0.4", lw=line_width(0.7))
    bound = verdict["predicted_max_kappa"]["tight"]
    _draw_factor(axis, bound, "by N/G (tight)", {"color": COLORS[3], "ls": "--"})
    _draw_factor(axis, verdict["critical_factor"], "critical factor", {"color": COLORS[2]})
    for setting in settings:
        _draw_ratio(axis, setting)
    label_outcomes(axis, settings)
    set_binary_scale(axis, [setting["kappa"] for setting in settings])
    set_log_scale(axis)
    axis.set_xlabel(KAPPA)
    axis.set_ylabel("loss / loss at κ = 1")
    add_legend(figure, axis)
    return figure


def _draw_ratio(axis, setting):
    ratio = Interval(1.0, 1.0, 1.0) if setting["outcome"] == "base" else setting["loss_ratio"]
    if not ratio or not ratio.mean > 0:
        return
    if not (math.isfinite(ratio.ci_high) and ratio.ci_low > 0):
        ratio = Interval(ratio.mean, -math.inf, math.inf)
    draw_point(axis, setting["kappa"], ratio, setting["outcome"])


def _draw_factor(axis, interval, label, style):
    """Draws a factor as a line with a band, which may be open."""
    if not math.isfinite(interval.mean):
        return
    axis.axvline(interval.mean, label=f"{label} {interval.mean:.3g}", lw=line_width(), **style)
    if interval.ci_low > 0:
        high = interval.ci_high if math.isfinite(interval.ci_high) else 4 * interval.mean
        axis.axvspan(interval.ci_low, high, color=style["color"], alpha=0.12, lw=0)


def draw_curves(workdir, table, verdict):
    """Draws the training loss against examples seen, one line per batch size."""
    figure, [axis] = panels(1)
    done = finished(table)
    before = verdict["branch_step"] * verdict["base_batch_size"]
    base = [row for row in done if row["method"] != BRANCH]
    if base:
        steps, losses = load_curves(workdir, base, "train_loss")
        examples = steps * verdict["base_batch_size"] / 1000
        axis.plot(examples, mean_ignoring_gaps(losses), color="0.4")
    kappas = sorted({row["kappa"] for row in done if row["method"] == BRANCH})
    others = [kappa for kappa in kappas if kappa != 1]
    for kappa in kappas:
        rows = [row for row in done if row["method"] == BRANCH and row["kappa"] == kappa]
        steps, losses = load_curves(workdir, rows, "train_loss")
        color = SGD_COLOR if kappa == 1 else ordered_color(kappa, others)
        examples = (before + steps * rows[0]["batch_size"]) / 1000
        name = f"B = {rows[0]['batch_size']}"
        draw_curve(axis, examples, mean_ignoring_gaps(losses), name, color)
    end = (before + verdict["recovery"] * verdict["num_examples"]) / 1000
    axis.axvline(end, color="0.4", lw=line_width(0.7), ls=":")
    set_log_scale(axis)
    axis.set_xlabel(EXAMPLES)
    axis.set_ylabel("train loss")
    label_ends([axis])
    return figure
