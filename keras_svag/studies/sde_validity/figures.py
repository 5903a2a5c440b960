"""Figures of the SDE-validity study: curves over training, and means against 1/ell."""

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
    set_log_scale,
    set_plain_log_scale,
)
from keras_svag.studies.base.titles import curves_of

LIMITS = (
    ("weight_norm", "R = |x|²"),
    ("gradient_noise", "batch size × N"),
    ("gradient_signal", "gradient signal G"),
    ("train_loss", "train loss"),
)


def build_figures(study, table, details, workdir):
    """The convergence in 1/ell, and the curves at each batch size: a list of `Drawing`."""
    title, ells, closeness = study.facts.title, list(study.ells), study.closeness
    arguments = (table, list(study.batch_sizes), ells, closeness, title)
    same_sde = "All batch sizes have the same SDE, so their limits should meet. "
    if study.facts.independent_of_batch is False:  # batch norm
        same_sde = "The loss depends on the batch size, so each batch size has an SDE of its own. "
    drawings = [
        Drawing(
            "convergence",
            "Where amplification leads",
            f"Means over the equilibrium window against 1/ell: {title} at the right, its SDE at "
            "the left (hollow: extrapolated from the two largest ell). Flat lines mean "
            f"that the SDE models {title}; the band is a factor C around the limit. "
            f"{same_sde}"
            "Bars: 95 % t intervals over seeds.",
            functools.partial(draw_convergence, *arguments),
        )
    ]
    for entry in details["verdicts"]:
        batch_size = entry["batch_size"]
        drawings.append(
            Drawing(
                f"curves_b{batch_size}",
                f"Curves at batch size {batch_size}: {entry['verdict']}",
                "Training against effective steps (steps / ell), mean over seeds; bands "
                f"span the seeds. ell = 1 is {title}. Curves that lie on each other mean that "
                f"the SDE models {title}. Grey: the window over which N, G and R are averaged.",
                functools.partial(
                    draw_curves, workdir, table, batch_size, tuple(study.window), title
                ),
            )
        )
    return drawings


def _ell_color(ell, ells):
    others = [e for e in ells if e != 1]
    return SGD_COLOR if ell == 1 else ordered_color(ell, others, start=0.75, length=0.65)


def draw_curves(workdir, table, batch_size, window, title):
    """Every recorded quantity against effective steps, a line per ell."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    rows = finished(table, batch_size)
    ells = sorted({r["ell"] for r in rows})
    for axis, (column, label, scale) in zip(axes.flat, curves_of(table)):
        for ell in ells:
            steps, values = load_curves(workdir, [r for r in rows if r["ell"] == ell], column)
            if scale == "log":
                values = np.where(values > 0, values, np.nan)
            color = _ell_color(ell, ells)
            name = f"ell = 1 ({title})" if ell == 1 else f"ell = {ell:g}"
            mean = mean_ignoring_gaps(values)
            axis.plot(steps, mean, color=color, label=name, lw=2 if ell == 1 else 1.4)
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
            axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
        if scale == "log":
            set_log_scale(axis)
        axis.set_title(label, loc="left")
        if rows:
            axis.axvspan(*np.array(window) * steps[-1], color="0.5", alpha=0.08, lw=0)
    for axis in axes[-1]:
        axis.set_xlabel("effective steps (steps / ell)")
    if rows:
        axes[0, 0].legend(loc="lower right")
    figure.suptitle(f"batch size {batch_size}, learning rate {_rate(table, batch_size):g}")
    return figure


def _rate(table, batch_size):
    return next(r["learning_rate"] for r in table if r["batch_size"] == batch_size)


def draw_convergence(table, batch_sizes, ells, closeness, title):
    """Means over the window against 1/ell, a line per batch size."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    limits = [limit for limit in LIMITS if limit[0] == "weight_norm" or has_column(table, limit[0])]
    for axis, (column, label) in zip(figure.subplots(1, len(limits), squeeze=False).flat, limits):
        for i, batch_size in enumerate(batch_sizes):
            style = (COLORS[i % 6], MARKERS[i % 6])
            _draw_limit(axis, table, batch_size, column, ells, closeness, *style)
        set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("1 / ell")
        axis.set_xlim(-0.08, 1.05)
        axis.set_xticks([0, 0.25, 0.5, 1], ["SDE", "1/4", "1/2", title])
    if finished(table):
        figure.axes[0].legend(loc="best")
    return figure


def _draw_limit(axis, table, batch_size, column, ells, closeness, color, marker):
    done = finished(table, batch_size)
    # N of one example: the same at all batch sizes that have the same SDE, by any scaling rule.
    factor = batch_size if column == "gradient_noise" else 1
    values = {ell: {r["seed"]: factor * r[column] for r in done if r["ell"] == ell} for ell in ells}
    values = {ell: by_seed for ell, by_seed in values.items() if by_seed}
    if not values:
        return
    intervals = [theory.mean_interval(list(v.values())) for v in values.values()]
    inverse = [1 / ell for ell in values]
    means = [i.mean for i in intervals]
    axis.plot(inverse, means, color=color, marker=marker, ms=4, label=f"B = {batch_size}")
    for x, interval in zip(inverse, intervals):
        if math.isfinite(interval.ci_low):
            axis.plot([x, x], [interval.ci_low, interval.ci_high], color=color, lw=1)
    limit = _extrapolated(values)
    if limit is None or limit.mean <= 0:
        return
    axis.plot([inverse[-1], 0], [means[-1], limit.mean], color=color, ls=":", lw=1)
    axis.plot([0], [limit.mean], color=color, marker=marker, ms=6, mfc="none", ls="none")
    if math.isfinite(limit.ci_low) and limit.ci_low > 0:
        axis.plot([0, 0], [limit.ci_low, limit.ci_high], color=color, lw=1)
    if column in theory.QUANTITIES:
        axis.axhspan(limit.mean / closeness, limit.mean * closeness, color=color, alpha=0.08, lw=0)


def _extrapolated(values):
    """The limit from the two largest ell, over the seeds that both have; or `None`."""
    amplified = [ell for ell in values if ell > 1][-2:]
    if len(amplified) < 2:
        return None
    small, large = amplified
    seeds = sorted(set(values[small]) & set(values[large]))
    if not seeds:
        return None
    return theory.mean_interval(
        theory.extrapolate(
            small, [values[small][s] for s in seeds], large, [values[large][s] for s in seeds]
        )
    )
