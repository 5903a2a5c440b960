"""Figures of the study: convergence in 1/ell, and curves over training."""

import functools

import numpy as np

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
)
from keras_svag.report.labels import EFFECTIVE_STEPS, keep_within, label_of
from keras_svag.report.series import draw_bar, draw_curve, label_ends, lighter, tag
from keras_svag.report.style import label_x, line_width, panels
from keras_svag.report.ticks import set_log_scale
from keras_svag.studies.base.wording import curves_of
from keras_svag.theory.verdicts.limit import estimate_limit, extrapolations

ALPHA = 0.025  # at each end of the intervals that are drawn
# Bands are told apart by their lines, also in gray.
HATCHES = ("///", "\\\\\\", "|||", "---", "...", "xxx")

LIMITS = (
    ("weight_norm", label_of("weight_norm")),
    ("gradient_noise", label_of("scaled_noise")),
    ("gradient_signal", label_of("gradient_signal")),
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
            f"Means over the equilibrium window against 1/ℓ, from {title} on the right to its "
            "SDE on the left. Dotted: the last two extrapolations; hollow: their mean, the limit. "
            f"Flat lines mean that the SDE models {title} well. {same_sde} Hatched: within a "
            "factor C of the limit. Bars: 95 % t intervals over seeds.",
            functools.partial(draw_convergence, table, study.closeness, title),
        )
    ]
    for entry in details["verdicts"]:
        batch_size, rate = entry["batch_size"], f"learning rate {entry['learning_rate']:g}"
        drawings.append(
            Drawing(
                f"curves_b{batch_size}",
                f"Curves at batch size {batch_size}, {rate}: {entry['verdict']}",
                "Mean over seeds against effective steps (steps / ℓ), shaded from the lowest to "
                f"the highest seed. ℓ = 1 is {title}. If the curves coincide, the SDE models "
                f"{title} well. Gray: the window over which N, G and R are averaged.",
                functools.partial(draw_curves, workdir, table, batch_size, study.window, title),
            )
        )
    return drawings


def draw_curves(workdir, table, batch_size, window, title):
    """Draws every recorded quantity against effective steps, one line per ell."""
    rows, curves = finished(table, batch_size), curves_of(table)
    ells = sorted({r["ell"] for r in rows})
    figure, axes = panels(len(curves))
    for axis, (column, label, scale) in zip(axes, curves):
        for ell in ells:
            steps, values = load_curves(workdir, [r for r in rows if r["ell"] == ell], column)
            if scale == "log":
                values = np.where(values > 0, values, np.nan)
            mean, band = (
                mean_ignoring_gaps(values),
                (np.fmin.reduce(values), np.fmax.reduce(values)),
            )
            draw_curve(axis, steps, mean, band=band, **_style(ell, ells, title))
        if scale == "log":
            set_log_scale(axis)
        keep_within(axis, column)
        axis.set_ylabel(label)
        if rows:
            axis.axvspan(*np.array(window) * steps[-1], color="0.5", alpha=0.1, lw=0)
    label_x(axes, EFFECTIVE_STEPS)
    label_ends(axes)
    return figure


def _style(ell, ells, title):
    if ell == 1:
        return {"name": f"ℓ = 1 ({title})", "color": SGD_COLOR, "width": 1.4}
    color = ordered_color(ell, [e for e in ells if e != 1], start=0.75, length=0.65)
    return {"name": f"ℓ = {ell:g}", "color": color}


def draw_convergence(table, closeness, title):
    """Draws means over the window against 1/ell, one line per batch size."""
    batch_sizes = sorted({row["batch_size"] for row in table})
    limits = [limit for limit in LIMITS if limit[0] == "weight_norm" or has_column(table, limit[0])]
    figure, axes = panels(len(limits), aspect=1.05)
    for axis, (column, label) in zip(axes, limits):
        for i, batch_size in enumerate(batch_sizes):
            rows = finished(table, batch_size)
            _draw_limit(axis, rows, column, closeness, COLORS[i % 6], i % 6)
        set_log_scale(axis)
        axis.set_ylabel(label)
        axis.set_xlim(-0.08, 1.05)
        axis.set_xticks([0, 0.25, 0.5, 1], ["SDE", "1/4", "1/2", title])
    label_x(axes, "1/ℓ")
    label_ends(axes)
    return figure


def _draw_limit(axis, rows, column, closeness, color, index):
    if not rows:
        return
    # N of one example: the same at all batch sizes with the same SDE, by any scaling rule.
    factor = rows[0]["batch_size"] if column == "gradient_noise" else 1
    values = {
        ell: np.array([factor * row[column] for row in rows if row["ell"] == ell])
        for ell in sorted({row["ell"] for row in rows})
    }
    means = {ell: np.mean(of_ell) for ell, of_ell in values.items()}
    name, marker = f"B = {rows[0]['batch_size']}", MARKERS[index]
    draw_curve(axis, [1 / ell for ell in values], list(means.values()), name, color, marker=marker)
    intervals = {1 / ell: theory.mean_interval(of_ell) for ell, of_ell in values.items()}
    usable = [ell for ell in values if ell > 1 and len(values[ell]) > 1]
    pairs = extrapolations(values, usable, ALPHA)[-2:]
    style = {"color": color, "lw": line_width(0.7), **tag(name)}
    for pair in pairs:
        if pair.limit.mean > 0:
            ends = [*(means[ell] for ell in pair.ells), pair.limit.mean]
            axis.plot([*(1 / ell for ell in pair.ells), 0], ends, ls=":", **style)
    limit = estimate_limit(values, usable, ALPHA) if len(pairs) == 2 else None
    if limit is not None and limit.mean > 0:
        axis.plot([0], [limit.mean], marker=marker, mfc="none", ls="none", **style)
        if column in theory.QUANTITIES:
            _draw_band(axis, limit.mean / closeness, limit.mean * closeness, color, index, name)
        if limit.ci_low > 0:
            intervals[0] = limit
    for x, interval in intervals.items():
        draw_bar(axis, x, interval, name, color)


def _draw_band(axis, low, high, color, index, name):
    # Not transparent: PDF ignores it for hatches.
    style = {"edgecolor": lighter(color), "lw": line_width(0.5), "hatch": HATCHES[index]}
    axis.axhspan(low, high, facecolor="none", zorder=0, **style, **tag(name))
