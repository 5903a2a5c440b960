"""Figures of the study: where the rule holds, and curves over training."""

import functools
import math

from matplotlib.figure import Figure

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
from keras_svag.studies.base.titles import main_metric_curve

SCALING = (
    ("scaled_noise", "B N (batch size × gradient noise)"),
    ("gradient_signal", "gradient signal G"),
    ("weight_norm", "R = |x|²"),
)
OUTCOME_STYLES = {
    "base": {"marker": "D", "mfc": SGD_COLOR, "mec": SGD_COLOR},
    "holds": {"marker": "o", "mfc": COLORS[0], "mec": COLORS[0]},
    "inconclusive": {"marker": "o", "mfc": "white", "mec": COLORS[0]},
    "fails": {"marker": "x", "mfc": COLORS[0], "mec": COLORS[0], "mew": 2},
}


def build_figures(study, table, details, workdir):
    """Returns a list of `Drawing`: where the rule holds, and the curves."""
    metric = main_metric_curve(table)
    return [
        Drawing(
            "scaling",
            "Where the rule holds and where training leaves it",
            "Means over equilibrium against kappa, the factor on the batch size, with the learning "
            "rate scaled accordingly. Diamond and gray line: the base runs. Gray band: within a "
            f"factor C (test accuracy: lower by at most {details['tolerance']:g}). Filled: holds; "
            "hollow: inconclusive; cross: fails. Vertical lines: the largest kappa predicted from "
            "the base runs alone, and the largest up to which the rule was observed to hold. Bars: "
            "95 % t intervals over seeds.",
            functools.partial(draw_scaling, details, metric),
        ),
        Drawing(
            "scaling_curves",
            "Training against examples seen",
            "Mean over seeds against examples seen (effective steps × batch size). Curves coincide "
            "where the rule holds. Orange: the base; the larger the batch, the darker.",
            functools.partial(draw_curves, workdir, table, study.base_batch_size, metric),
        ),
    ]


def draw_scaling(verdict, metric):
    """Draws quantities against kappa, with the base and the predicted and observed limits."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    settings, lines = verdict["settings"], _kappa_lines(verdict)
    panels = (*SCALING, (metric[0], f"{metric[1]} (end)"))
    for axis, (name, label) in zip(figure.subplots(2, 2).flat, panels):
        _draw_settings(axis, verdict, name)
        for kappa, text, style in lines:
            axis.axvline(kappa, label=text, lw=1.4, **style)
        axis.set_xscale("log", base=2)
        kappas = [setting["kappa"] for setting in settings]
        axis.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
        axis.minorticks_off()
        if name != metric[0] or metric[2] == "log":
            set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("kappa (batch size / base batch size)")
    for outcome in dict.fromkeys(setting["outcome"] for setting in settings):
        figure.axes[0].plot([], [], ls="none", label=outcome, **OUTCOME_STYLES[outcome])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _kappa_lines(verdict):
    """Returns position, label and style of the vertical lines with a finite position."""
    predicted, observed = verdict["predicted_max_kappa"], verdict["observed_max_kappa"]["value"]
    candidates = [
        (predicted["tight"].mean, "predicted (tight)", {"color": COLORS[3], "ls": "--"}),
        (predicted["paper"].mean, "predicted (paper's form)", {"color": COLORS[1], "ls": ":"}),
        (observed, "observed: holds up to", {"color": COLORS[2], "ls": "-"}),
    ]
    return [
        (kappa, f"{text} {kappa:.3g}", style)
        for kappa, text, style in candidates
        if kappa is not None and math.isfinite(kappa)
    ]


def _draw_settings(axis, verdict, name):
    closeness = verdict["closeness"]
    for setting in verdict["settings"]:
        interval, kappa = setting.get(name), setting["kappa"]
        if interval is None or not interval.mean > 0:  # cannot be drawn on a logarithmic axis
            continue
        style = OUTCOME_STYLES[setting["outcome"]]
        if math.isfinite(interval.ci_low):
            axis.plot([kappa, kappa], [interval.ci_low, interval.ci_high], color=style["mec"], lw=1)
        axis.plot([kappa], [interval.mean], ls="none", ms=6, zorder=3, **style)
        if kappa == 1:
            band = (interval.mean / closeness, interval.mean * closeness)
            if name == "test_accuracy":
                band = (interval.mean - verdict["tolerance"], interval.mean)
            axis.axhline(interval.mean, color="0.4", lw=1)
            axis.axhspan(*band, color="0.5", alpha=0.12, lw=0)


def draw_curves(workdir, table, base, metric):
    """Draws training against examples seen, one line per batch size."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    curves = (("weight_norm", "R = |x|²", "log"), ("train_loss", "train loss", "log"), metric)
    done = finished(table)
    sizes = sorted({row["batch_size"] for row in done})
    others = [size for size in sizes if size != base]
    for axis, (column, label, scale) in zip(figure.subplots(1, 3), curves):
        for size in sizes:
            rows = [row for row in done if row["batch_size"] == size]
            steps, values = load_curves(workdir, rows, column)
            style = {"color": SGD_COLOR, "lw": 2, "zorder": 3}
            if size != base:
                style = {"color": ordered_color(size, others), "lw": 1.2, "zorder": 2}
            examples, mean = steps * size / 1000, mean_ignoring_gaps(values)
            axis.plot(examples, mean, label=f"B = {size}", **style)
        if scale == "log":
            set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("examples seen / 1000")
    if done:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure
