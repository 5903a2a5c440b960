"""Figures of the linear-scaling study: where the rule holds, and the curves."""

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
# How a batch size that holds, fails, or is not decided is drawn.
OUTCOME_STYLES = {
    "base": {"marker": "D", "mfc": SGD_COLOR, "mec": SGD_COLOR},
    "holds": {"marker": "o", "mfc": COLORS[0], "mec": COLORS[0]},
    "inconclusive": {"marker": "o", "mfc": "white", "mec": COLORS[0]},
    "fails": {"marker": "x", "mfc": COLORS[0], "mec": COLORS[0], "mew": 2},
}


def build_figures(study, table, details, workdir):
    """Where the rule holds and where training leaves it, and the curves: a list of `Drawing`."""
    tolerance = f"{details['tolerance']:g}"
    metric = main_metric_curve(table)
    return [
        Drawing(
            "scaling",
            "Where the rule holds and where training leaves it",
            "Means over equilibrium against kappa, the factor on the batch size; the learning "
            "rate is scaled along. Diamond: the base runs, their level the grey line; grey "
            "band: a factor C around it (test accuracy: lower by up to "
            f"{tolerance}). Discs hold, circles are not decided, crosses fail. Vertical lines: "
            "the largest kappa predicted from the base runs alone, and the largest up to "
            "which the rule was seen to hold. Bars: 95 % t intervals over seeds.",
            functools.partial(draw_scaling, details, metric),
        ),
        Drawing(
            "scaling_curves",
            "Training against examples seen",
            "Mean over seeds against examples seen (effective steps × batch size), on which "
            "runs lie on each other where the rule holds; the base in orange, larger batches "
            "darker.",
            functools.partial(draw_curves, workdir, table, study.base_batch_size, metric),
        ),
    ]


def draw_scaling(verdict, metric):
    """Quantities against kappa, with the base's level and the predicted and observed ends."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    settings = verdict["settings"]
    lines = _kappa_lines(verdict)
    for axis, (name, label) in zip(
        figure.subplots(2, 2).flat, (*SCALING, (metric[0], f"{metric[1]} (end)"))
    ):
        for setting in settings:
            interval = setting.get(name)
            if interval is not None and interval.mean > 0:
                _draw_setting(axis, setting, interval)
        _draw_level(axis, settings, name, verdict)
        for kappa, text, style in lines:
            axis.axvline(kappa, label=text, lw=1.4, **style)
        axis.set_xscale("log", base=2)
        kappas = [setting["kappa"] for setting in settings]
        axis.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
        axis.minorticks_off()
        if name != metric[0] or metric[2] == "log":
            set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("kappa (batch size over the base's)")
    for outcome in dict.fromkeys(setting["outcome"] for setting in settings):
        figure.axes[0].plot([], [], ls="none", label=outcome, **OUTCOME_STYLES[outcome])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _kappa_lines(verdict):
    """Vertical lines: position, label, style. Those without a finite position are left out."""
    predicted, observed = verdict["predicted_max_kappa"], verdict["observed_max_kappa"]["value"]
    found = [
        (predicted["tight"].mean, "predicted (tight)", {"color": COLORS[3], "ls": "--"}),
        (predicted["paper"].mean, "predicted (paper's form)", {"color": COLORS[1], "ls": ":"}),
        (observed, "observed: holds up to", {"color": COLORS[2], "ls": "-"}),
    ]
    return [
        (kappa, f"{text} {kappa:.3g}", style)
        for kappa, text, style in found
        if kappa is not None and math.isfinite(kappa)
    ]


def _draw_setting(axis, setting, interval):
    style = OUTCOME_STYLES[setting["outcome"]]
    kappa, color = setting["kappa"], style["mec"]
    if math.isfinite(interval.ci_low):
        axis.plot([kappa, kappa], [interval.ci_low, interval.ci_high], color=color, lw=1)
    axis.plot([kappa], [interval.mean], ls="none", ms=6, zorder=3, **style)


def _draw_level(axis, settings, name, verdict):
    base = next(setting for setting in settings if setting["kappa"] == 1).get(name)
    if base is None or base.mean <= 0:
        return
    if name == "test_accuracy":
        low, high = base.mean - verdict["tolerance"], base.mean
    else:
        low, high = base.mean / verdict["closeness"], base.mean * verdict["closeness"]
    axis.axhline(base.mean, color="0.4", lw=1)
    axis.axhspan(low, high, color="0.5", alpha=0.12, lw=0)


def draw_curves(workdir, table, base, metric):
    """Training against examples seen, a line per batch size."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    curves = (
        ("weight_norm", "R = |x|²", "log"),
        ("train_loss", "train loss", "log"),
        metric,
    )
    done = finished(table)
    sizes = sorted({row["batch_size"] for row in done})
    others = [size for size in sizes if size != base]
    for axis, (column, label, scale) in zip(figure.subplots(1, 3), curves):
        for size in sizes:
            rows = [row for row in done if row["batch_size"] == size]
            steps, values = load_curves(workdir, rows, column)
            is_base = size == base
            axis.plot(
                steps * size / 1000,
                mean_ignoring_gaps(values),
                color=SGD_COLOR if is_base else ordered_color(size, others),
                label=f"B = {size}",
                lw=2 if is_base else 1.2,
                zorder=3 if is_base else 2,
            )
        if scale == "log":
            set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("effective steps × batch size / 1000")
    if done:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure
