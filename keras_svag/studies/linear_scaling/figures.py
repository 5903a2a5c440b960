"""Figures of the study: where the rule holds, and curves over training."""

import functools
import math

from keras_svag.report.drawing import (
    COLORS,
    SGD_COLOR,
    Drawing,
    finished,
    load_curves,
    mean_ignoring_gaps,
    ordered_color,
)
from keras_svag.report.labels import EXAMPLES, KAPPA, clip, keep_within, label_of
from keras_svag.report.points import draw_point, label_outcomes, mark_failures
from keras_svag.report.series import draw_curve, label_ends
from keras_svag.report.style import add_legend, label_x, line_width, panels
from keras_svag.report.ticks import set_binary_scale, set_log_scale
from keras_svag.studies.base.wording import log_curve, main_metric_curve
from keras_svag.studies.linear_scaling.bound import why_guide
from keras_svag.studies.linear_scaling.judge import TEST_ERROR_RATIO
from keras_svag.studies.linear_scaling.paper_figure import draw_paper_figure, has_errors

SCALING = tuple(
    (name, label_of(name)) for name in ("scaled_noise", "gradient_signal", "weight_norm")
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
            "Means over equilibrium against κ, the factor on the batch size, with the learning "
            "rate scaled accordingly. Diamond and gray line: the base runs. Gray band: within a "
            f"factor C (test accuracy: {allowed}). Filled: holds; "
            "hollow: inconclusive; cross: fails. Vertical lines: the largest κ predicted from "
            "the base runs alone (a guide unless all assumptions hold), and the largest up to "
            "which the rule was observed to hold. Bars: 95 % t intervals over seeds.",
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
        "Thin lines: the paper's networks on CIFAR-10, with batch norm (BN) or group norm (GN), "
        "read off its figure. Markers as above. "
        "Bars: 95 % intervals over seeds, cut at the edge."
    )


def draw_scaling(verdict, metric):
    """Draws quantities against kappa, with the base and the predicted and observed limits."""
    settings, lines = verdict["settings"], _kappa_lines(verdict)
    shown = (*SCALING, (metric[0], f"{metric[1]} (end)"))
    figure, axes = panels(len(shown), aspect=1.0)
    for axis, (name, label) in zip(axes, shown):
        _draw_settings(axis, verdict, name)
        for kappa, text, style in lines:
            axis.axvline(kappa, label=text, lw=line_width(), **style)
        set_binary_scale(axis, [setting["kappa"] for setting in settings])
        if name != metric[0] or metric[2] == "log":
            set_log_scale(axis)
        keep_within(axis, name)
        axis.set_ylabel(label)
    label_x(axes, KAPPA)
    label_outcomes(axes[0], settings)
    mark_failures(axes[0], settings, "kappa")
    add_legend(figure, axes[0])
    return figure


def _kappa_lines(verdict):
    """Returns position, label and style of the vertical lines with a finite position."""
    predicted, observed = verdict["predicted_max_kappa"], verdict["observed_max_kappa"]["value"]
    word = "guide" if why_guide(verdict["premises"]) else "predicted"
    candidates = [
        (predicted["tight"].mean, f"{word} (tight)", {"color": COLORS[3], "ls": "--"}),
        (predicted["paper"].mean, f"{word} (paper)", {"color": COLORS[1], "ls": ":"}),
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
        interval, kappa = clip(setting.get(name), name), setting["kappa"]
        if interval is None or not interval.mean > 0:  # cannot be drawn on a logarithmic axis
            continue
        draw_point(axis, kappa, interval, setting["outcome"])
        if kappa == 1:
            band = (interval.mean / closeness, interval.mean * closeness)
            if name == "test_accuracy":
                band = (_lowest_accuracy(interval.mean, verdict), interval.mean)
            axis.axhline(interval.mean, color="0.4", lw=line_width(0.7))
            axis.axhspan(*band, color="0.5", alpha=0.15, lw=0)


def _lowest_accuracy(base, verdict):
    if verdict["criterion"] == TEST_ERROR_RATIO:
        return 1 - verdict["test_error_ratio"] * (1 - base)
    return base - verdict["tolerance"]


def draw_curves(workdir, table, base, metric):
    """Draws training against examples seen, one line per batch size."""
    curves = (metric, log_curve("train_loss"), log_curve("weight_norm"))
    done = finished(table)
    sizes = sorted({row["batch_size"] for row in done})
    others = [size for size in sizes if size != base]
    figure, axes = panels(len(curves))
    for axis, (column, label, scale) in zip(axes, curves):
        for size in sizes:
            rows = [row for row in done if row["batch_size"] == size]
            steps, values = load_curves(workdir, rows, column)
            style = {"color": SGD_COLOR, "width": 1.4, "zorder": 3}
            if size != base:
                style = {"color": ordered_color(size, others), "zorder": 2}
            examples, mean = steps * size / 1000, mean_ignoring_gaps(values)
            draw_curve(axis, examples, mean, f"B = {size}", **style)
        if scale == "log":
            set_log_scale(axis)
        keep_within(axis, column)
        axis.set_ylabel(label)
    label_x(axes, EXAMPLES)
    label_ends(axes)
    return figure
