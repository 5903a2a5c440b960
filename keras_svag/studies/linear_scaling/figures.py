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
from keras_svag.report.points import draw_point, label_outcomes, mark_failures
from keras_svag.studies.base.wording import main_metric_curve
from keras_svag.studies.linear_scaling.judge import TEST_ERROR_RATIO
from keras_svag.studies.linear_scaling.paper_figure import draw_paper_figure, has_errors

SCALING = (
    ("scaled_noise", "B N (batch size × gradient noise)"),
    ("gradient_signal", "gradient signal G"),
    ("weight_norm", "R = |x|²"),
)


def build_figures(study, table, details, workdir):
    """Returns a list of `Drawing`: where the rule holds, the paper's figure, and the curves."""
    metric = main_metric_curve(table)
    allowed = f"lower by at most {details['tolerance']:g}"
    if study.criterion == TEST_ERROR_RATIO:
        allowed = f"error at most {details['test_error_ratio']:g} times as high"
    return [
        Drawing(
            "scaling",
            "Where the rule holds and where training leaves it",
            "Means over equilibrium against kappa, the factor on the batch size, with the learning "
            "rate scaled accordingly. Diamond and gray line: the base runs. Gray band: within a "
            f"factor C (test accuracy: {allowed}). Filled: holds; "
            "hollow: inconclusive; cross: fails. Vertical lines: the largest kappa predicted from "
            "the base runs alone, and the largest up to which the rule was observed to hold. Bars: "
            "95 % t intervals over seeds.",
            functools.partial(draw_scaling, details, metric),
        ),
        Drawing(
            "paper",
            "Signal over noise, as the paper shows it",
            _describe_paper_figure(details),
            functools.partial(draw_paper_figure, details),
        ),
        Drawing(
            "scaling_curves",
            "Training against examples seen",
            "Mean over seeds against examples seen (effective steps × batch size). Curves coincide "
            "where the rule holds. Orange: the base; the larger the batch, the darker.",
            functools.partial(draw_curves, workdir, table, study.base_batch_size, metric),
        ),
    ]


def _describe_paper_figure(details):
    caption = (
        "Means over equilibrium against batch size, the learning rate in proportion (section 5 of "
        "Li, Malladi, Arora 2021). From a base of much smaller batch size, where G/N is small, the "
        "rule must fail above the line G/N = C², if the assumptions above hold. "
    )
    if has_errors(details["settings"]):
        caption += (
            f"Gray: test error more than {details['test_error_ratio']:g} times the lowest of this "
            "study, or no run finished. "
        )
    return caption + (
        "Thin lines: the paper's networks on CIFAR-10, read off its figure. Markers as above. "
        "Bars: 95 % intervals over seeds, cut at the edge."
    )


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
    label_outcomes(figure.axes[0], settings)
    mark_failures(figure.axes[0], settings, "kappa")
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
        draw_point(axis, kappa, interval, setting["outcome"])
        if kappa == 1:
            band = (interval.mean / closeness, interval.mean * closeness)
            if name == "test_accuracy":
                band = (_lowest_accuracy(interval.mean, verdict), interval.mean)
            axis.axhline(interval.mean, color="0.4", lw=1)
            axis.axhspan(*band, color="0.5", alpha=0.12, lw=0)


def _lowest_accuracy(base, verdict):
    if verdict["criterion"] == TEST_ERROR_RATIO:
        return 1 - verdict["test_error_ratio"] * (1 - base)
    return base - verdict["tolerance"]


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
