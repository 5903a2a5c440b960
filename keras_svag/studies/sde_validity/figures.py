"""Figures of the study: convergence in 1/ell, and curves over training."""

import functools
import math

import numpy as np
from matplotlib.figure import Figure

from keras_svag import theory
from keras_svag.report.drawing import (
    COLORS,
    MARKERS,
    SGD_COLOR,
    Drawing,
    finished,
    has_column,
    load_curves,
    mean_ignoring_gaps,
    ordered_color,
    set_plain_log_scale,
)
from keras_svag.studies.base.wording import curves_of
from keras_svag.theory.verdicts.limit import estimate_limit, extrapolations

ALPHA = 0.025  # at each end of the intervals that are drawn

LIMITS = (
    ("weight_norm", "R = |x|²"),
    ("gradient_noise", "batch size × N"),
    ("gradient_signal", "gradient signal G"),
    ("train_loss", "train loss"),
)


def build_figures(study, table, details, workdir):
    """Returns a list of `Drawing`: the convergence in 1/ell, and the curves of each batch size."""
    title = study.facts.title
    same_sde = "All batch sizes share one SDE, so their limits should agree."
    if study.facts.independent_of_batch is False:  # batch norm
        same_sde = "The loss depends on the batch size, so each batch size has its own SDE."
    drawings = [
        Drawing(
            "convergence",
            "Where amplification leads",
            f"Means over the equilibrium window against 1/ell, from {title} on the right to its "
            "SDE on the left. Dotted: the last two extrapolations; hollow: their mean, the limit. "
            f"Flat lines mean that the SDE models {title} well. {same_sde} Shaded: within a factor "
            "C of the limit. Bars: 95 % t intervals over seeds.",
            functools.partial(draw_convergence, table, study.closeness, title),
        )
    ]
    for entry in details["verdicts"]:
        batch_size = entry["batch_size"]
        drawings.append(
            Drawing(
                f"curves_b{batch_size}",
                f"Curves at batch size {batch_size}: {entry['verdict']}",
                "Mean over seeds against effective steps (steps / ell), shaded from the lowest to "
                f"the highest seed. ell = 1 is {title}. If the curves coincide, the SDE models "
                f"{title} well. Gray: the window over which N, G and R are averaged.",
                functools.partial(draw_curves, workdir, table, batch_size, study.window, title),
            )
        )
    return drawings


def draw_curves(workdir, table, batch_size, window, title):
    """Draws every recorded quantity against effective steps, one line per ell."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    rows = finished(table, batch_size)
    ells = sorted({r["ell"] for r in rows})
    for axis, (column, label, scale) in zip(axes.flat, curves_of(table)):
        for ell in ells:
            steps, values = load_curves(workdir, [r for r in rows if r["ell"] == ell], column)
            if scale == "log":
                values = np.where(values > 0, values, np.nan)
            if ell == 1:
                style = {"color": SGD_COLOR, "label": f"ell = 1 ({title})", "lw": 2}
            else:
                color = ordered_color(ell, [e for e in ells if e != 1], start=0.75, length=0.65)
                style = {"color": color, "label": f"ell = {ell:g}", "lw": 1.4}
            axis.plot(steps, mean_ignoring_gaps(values), **style)
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
            axis.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)
        if scale == "log":
            set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        if rows:
            axis.axvspan(*np.array(window) * steps[-1], color="0.5", alpha=0.08, lw=0)
    for axis in axes[-1]:
        axis.set_xlabel("effective steps (steps / ell)")
    if rows:
        axes[0, 0].legend(loc="lower right")
    rate = next(r["learning_rate"] for r in table if r["batch_size"] == batch_size)
    figure.suptitle(f"batch size {batch_size}, learning rate {rate:g}")
    return figure


def draw_convergence(table, closeness, title):
    """Draws means over the window against 1/ell, one line per batch size."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    batch_sizes = sorted({row["batch_size"] for row in table})
    limits = [limit for limit in LIMITS if limit[0] == "weight_norm" or has_column(table, limit[0])]
    for axis, (column, label) in zip(figure.subplots(1, len(limits), squeeze=False).flat, limits):
        for i, batch_size in enumerate(batch_sizes):
            style = {"color": COLORS[i % 6], "marker": MARKERS[i % 6]}
            _draw_limit(axis, finished(table, batch_size), column, closeness, style)
        set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("1 / ell")
        axis.set_xlim(-0.08, 1.05)
        axis.set_xticks([0, 0.25, 0.5, 1], ["SDE", "1/4", "1/2", title])
    if finished(table):
        figure.axes[0].legend(loc="best")
    return figure


def _draw_limit(axis, rows, column, closeness, style):
    if not rows:
        return
    # N of one example: the same at all batch sizes with the same SDE, by any scaling rule.
    factor = rows[0]["batch_size"] if column == "gradient_noise" else 1
    values = {
        ell: np.array([factor * row[column] for row in rows if row["ell"] == ell])
        for ell in sorted({row["ell"] for row in rows})
    }
    means = {ell: np.mean(of_ell) for ell, of_ell in values.items()}
    axis.plot(
        [1 / ell for ell in values],
        list(means.values()),
        **{"ms": 4, "label": f"B = {rows[0]['batch_size']}", **style},
    )
    intervals = {1 / ell: theory.mean_interval(of_ell) for ell, of_ell in values.items()}
    color = style["color"]
    usable = [ell for ell in values if ell > 1 and len(values[ell]) > 1]
    pairs = extrapolations(values, usable, ALPHA)[-2:]
    for pair in pairs:
        if pair.limit.mean > 0:
            ends = [*(means[ell] for ell in pair.ells), pair.limit.mean]
            axis.plot([*(1 / ell for ell in pair.ells), 0], ends, color=color, ls=":", lw=1)
    limit = estimate_limit(values, usable, ALPHA) if len(pairs) == 2 else None
    if limit is not None and limit.mean > 0:
        axis.plot([0], [limit.mean], ms=6, mfc="none", ls="none", **style)
        if column in theory.QUANTITIES:
            band = (limit.mean / closeness, limit.mean * closeness)
            axis.axhspan(*band, color=color, alpha=0.08, lw=0)
        if limit.ci_low > 0:
            intervals[0] = limit
    for x, interval in intervals.items():
        if math.isfinite(interval.ci_low):
            axis.plot([x, x], [interval.ci_low, interval.ci_high], color=color, lw=1)
