"""Figures of a study, in one style: effective steps on the axis, colours safe for colour-blind."""

import functools
import io
import math
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_svag import validity
from keras_svag.study import records, runs

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.bbox": "tight",
}
SGD_COLOR = "#d55e00"
# Okabe and Ito's colours, for lines that are not an ordered family.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS = "osD^vP"

CURVES = (
    ("test_accuracy", "test accuracy", "linear"),
    ("train_loss", "train loss", "log"),
    ("weight_norm", "R = |x|²", "log"),
    ("gradient_noise", "gradient noise N", "log"),
    ("gradient_signal", "gradient signal G", "log"),
    ("noise_to_signal", "N / G", "log"),
)
LIMITS = (
    ("weight_norm", "R = |x|²"),
    ("gradient_noise", "learning rate × N"),
    ("gradient_signal", "gradient signal G"),
    ("train_loss", "train loss"),
)


def draw_sde_validity(workdir, table, verdict, config):
    """Draws and saves the figures of the SDE-validity study.

    Args:
        workdir: folder of the study; figures go to its `figures/`.
        table: rows of `results.csv`.
        verdict: the dict of `verdict.json`.
        config: a validated config.

    Returns:
        A list of dicts with `file`, `title` and `caption`, in the order of the report.
    """
    drawn = []
    folder = pathlib.Path(workdir) / "figures"
    with matplotlib.rc_context(STYLE):
        _save(folder / "convergence.png", _draw_convergence(table, config))
        drawn.append(
            {
                "file": "figures/convergence.png",
                "title": "Where amplification leads",
                "caption": (
                    "Means over the equilibrium window against 1/ell: SGD at the right, its SDE at "
                    "the left (hollow: extrapolated from the two largest ell). Flat lines mean "
                    "that the SDE models SGD; the band is a factor C around the limit. "
                    "All batch sizes have the same SDE, so their limits should meet. "
                    "Bars: 95 % t intervals over seeds."
                ),
            }
        )
        for entry in verdict["verdicts"]:
            batch_size = entry["batch_size"]
            file = f"figures/curves_b{batch_size}.png"
            _save(folder.parent / file, _draw_curves(workdir, table, batch_size, config))
            drawn.append(
                {
                    "file": file,
                    "title": f"Curves at batch size {batch_size}: {entry['verdict']}",
                    "caption": (
                        "Training against effective steps (steps / ell), mean over seeds; bands "
                        "span the seeds. ell = 1 is SGD. Curves that lie on each other mean that "
                        "the SDE models SGD. Grey: the window over which N, G and R are averaged."
                    ),
                }
            )
    return drawn


def _save(path, figure):
    buffer = io.BytesIO()
    # No date or version inside, so that the same data gives the same file.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    with records.atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _ell_color(ell, ells):
    if ell == 1:
        return SGD_COLOR
    others = [e for e in ells if e != 1]
    position = others.index(ell) / max(1, len(others) - 1)
    return matplotlib.colormaps["viridis"](0.75 - 0.65 * position)


def _draw_curves(workdir, table, batch_size, config):
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    rows = [r for r in table if r["batch_size"] == batch_size and r["status"] == runs.DONE]
    ells = sorted({r["ell"] for r in rows})
    for axis, (column, label, scale) in zip(axes.flat, CURVES):
        for ell in ells:
            steps, values = _load_curves(workdir, [r for r in rows if r["ell"] == ell], column)
            if scale == "log":
                values = np.where(values > 0, values, np.nan)
            mean = _mean_ignoring_gaps(values)
            color = _ell_color(ell, ells)
            name = "ell = 1 (SGD)" if ell == 1 else f"ell = {ell:g}"
            axis.plot(steps, mean, color=color, label=name, lw=2 if ell == 1 else 1.4)
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
            axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
        if scale == "log":
            _set_log_scale(axis)
        axis.set_title(label, loc="left")
        if rows:
            window = np.array(config["equilibrium"]) * steps[-1]
            axis.axvspan(*window, color="0.5", alpha=0.08, lw=0)
    for axis in axes[-1]:
        axis.set_xlabel("effective steps (steps / ell)")
    if rows:
        axes[0, 0].legend(loc="lower right")
    figure.suptitle(f"batch size {batch_size}, learning rate {_rate(table, batch_size):g}")
    return figure


def _set_log_scale(axis):
    """Returns whether the axis could be made logarithmic: only if it has a positive value."""
    possible = math.isfinite(axis.dataLim.minposy)
    if possible:
        axis.set_yscale("log")
    return possible


def _rate(table, batch_size):
    return next(r["learning_rate"] for r in table if r["batch_size"] == batch_size)


def _load_curves(workdir, rows, column):
    curves, steps = [], []
    for row in rows:
        records_of_run = records.read_jsonl(runs.RunFolder(workdir, row["name"]).metrics)
        steps = [r["effective_step"] for r in records_of_run]
        curves.append([math.nan if r[column] is None else r[column] for r in records_of_run])
    return np.array(steps), np.array(curves, float)


def _mean_ignoring_gaps(values):
    counts = np.sum(np.isfinite(values), axis=0)
    sums = np.nansum(values, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_convergence(table, config):
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(LIMITS))
    batch_sizes = config["sde_validity"]["batch_sizes"]
    for axis, (column, label) in zip(axes, LIMITS):
        for i, batch_size in enumerate(batch_sizes):
            _draw_limit(axis, table, batch_size, column, config, COLORS[i % 6], MARKERS[i % 6])
        if _set_log_scale(axis):
            formatter = functools.partial(matplotlib.ticker.LogFormatter, minor_thresholds=(2, 0.5))
            axis.yaxis.set_major_formatter(formatter())
            axis.yaxis.set_minor_formatter(formatter())
        axis.set_title(label, loc="left")
        axis.set_xlabel("1 / ell")
        axis.set_xlim(-0.08, 1.05)
        axis.set_xticks([0, 0.25, 0.5, 1], ["SDE", "1/4", "1/2", "SGD"])
    if any(row["status"] == runs.DONE for row in table):
        axes[0].legend(loc="best")
    return figure


def _draw_limit(axis, table, batch_size, column, config, color, marker):
    done = [r for r in table if r["batch_size"] == batch_size and r["status"] == runs.DONE]
    factor = _rate(table, batch_size) if column == "gradient_noise" else 1.0
    values = {
        ell: {r["seed"]: factor * r[column] for r in done if r["ell"] == ell}
        for ell in config["sde_validity"]["ells"]
    }
    values = {ell: by_seed for ell, by_seed in values.items() if by_seed}
    if not values:
        return
    intervals = [validity.mean_interval(list(v.values())) for v in values.values()]
    inverse = [1 / ell for ell in values]
    axis.plot(
        inverse,
        [i.mean for i in intervals],
        color=color,
        marker=marker,
        ms=4,
        label=f"B = {batch_size}",
    )
    for x, interval in zip(inverse, intervals):
        if math.isfinite(interval.ci_low):
            axis.plot([x, x], [interval.ci_low, interval.ci_high], color=color, lw=1)
    amplified = [ell for ell in values if ell > 1][-2:]
    if len(amplified) == 2:
        small, large = amplified
        seeds = sorted(set(values[small]) & set(values[large]))
        if not seeds:
            return
        limit = validity.mean_interval(
            validity.extrapolate(
                small, [values[small][s] for s in seeds], large, [values[large][s] for s in seeds]
            )
        )
        if limit.mean <= 0:
            return
        axis.plot([inverse[-1], 0], [intervals[-1].mean, limit.mean], color=color, ls=":", lw=1)
        axis.plot([0], [limit.mean], color=color, marker=marker, ms=6, mfc="none", ls="none")
        if math.isfinite(limit.ci_low) and limit.ci_low > 0:
            axis.plot([0, 0], [limit.ci_low, limit.ci_high], color=color, lw=1)
        if column in validity.QUANTITIES:
            c = config["closeness"]
            axis.axhspan(limit.mean / c, limit.mean * c, color=color, alpha=0.08, lw=0)
