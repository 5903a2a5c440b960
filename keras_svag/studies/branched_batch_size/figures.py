"""Figures of the study: the loss against the factor on the batch size, and the curves."""

import functools
import math

from matplotlib.figure import Figure

from keras_svag.engine.spec import BRANCH
from keras_svag.report.drawing import (
    COLORS,
    SGD_COLOR,
    Drawing,
    finished,
    load_curves,
    mean_ignoring_gaps,
    ordered_color,
    set_plain_log_scale,
)
from keras_svag.report.points import OUTCOME_STYLES, label_outcomes


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
            "Mean over seeds against examples seen; dotted: the end of the recovery. Orange: the "
            "base; the larger the batch, the darker.",
            functools.partial(draw_curves, workdir, table, details),
        ),
    ]


def draw_ratios(verdict):
    """Draws the loss of each factor over that of the base."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    settings = verdict["settings"]
    axis.axhspan(1, 1 + verdict["tolerance"], color="0.5", alpha=0.15, lw=0)
    axis.axhline(1, color="0.4", lw=1)
    axis.set_xscale("log", base=2)
    bound = verdict["predicted_max_kappa"]["tight"]
    _draw_factor(axis, bound, "by N/G (tight)", {"color": COLORS[3], "ls": "--"})
    _draw_factor(axis, verdict["critical_factor"], "critical factor", {"color": COLORS[2]})
    for setting in settings:
        _draw_ratio(axis, setting)
    label_outcomes(axis, settings)
    kappas = [setting["kappa"] for setting in settings]
    axis.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
    axis.minorticks_off()
    set_plain_log_scale(axis)
    axis.set_xlabel("kappa (batch size / base batch size)")
    axis.set_title("loss of the branch / loss at kappa = 1", loc="left")
    figure.legend(loc="outside right center")
    return figure


def _draw_ratio(axis, setting):
    style, kappa, ratio = (
        OUTCOME_STYLES[setting["outcome"]],
        setting["kappa"],
        setting["loss_ratio"],
    )
    mean = 1.0 if setting["outcome"] == "base" else ratio.mean if ratio else math.nan
    if not mean > 0:
        return
    if ratio and math.isfinite(ratio.ci_high) and ratio.ci_low > 0:
        axis.plot([kappa, kappa], [ratio.ci_low, ratio.ci_high], color=style["mec"], lw=1)
    axis.plot([kappa], [mean], ls="none", ms=6, zorder=3, **style)


def _draw_factor(axis, interval, label, style):
    """Draws a factor as a line with a band, which may be open."""
    if not math.isfinite(interval.mean):
        return
    axis.axvline(interval.mean, label=f"{label} {interval.mean:.3g}", lw=1.4, **style)
    if interval.ci_low > 0:
        high = interval.ci_high if math.isfinite(interval.ci_high) else 4 * interval.mean
        axis.axvspan(interval.ci_low, high, color=style["color"], alpha=0.12, lw=0)


def draw_curves(workdir, table, verdict):
    """Draws the training loss against examples seen, one line per batch size."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    done = finished(table)
    before = verdict["branch_step"] * verdict["base_batch_size"]
    base = [row for row in done if row["method"] != BRANCH]
    if base:
        steps, losses = load_curves(workdir, base, "train_loss")
        examples = steps * verdict["base_batch_size"] / 1000
        axis.plot(examples, mean_ignoring_gaps(losses), color="0.4", label="before")
    kappas = sorted({row["kappa"] for row in done if row["method"] == BRANCH})
    others = [kappa for kappa in kappas if kappa != 1]
    for kappa in kappas:
        rows = [row for row in done if row["method"] == BRANCH and row["kappa"] == kappa]
        steps, losses = load_curves(workdir, rows, "train_loss")
        color = SGD_COLOR if kappa == 1 else ordered_color(kappa, others)
        examples = (before + steps * rows[0]["batch_size"]) / 1000
        label = f"B = {rows[0]['batch_size']}"
        axis.plot(examples, mean_ignoring_gaps(losses), color=color, lw=1.4, label=label)
    end = (before + verdict["recovery"] * verdict["num_examples"]) / 1000
    axis.axvline(end, color="0.4", lw=1, ls=":")
    set_plain_log_scale(axis)
    axis.set_xlabel("examples seen / 1000")
    axis.set_title("train loss", loc="left")
    if done:
        figure.legend(loc="outside right center")
    return figure
