"""Figures of the study: curves of the methods over training."""

import functools

from keras_svag.report.drawing import (
    COLORS,
    SGD_COLOR,
    Drawing,
    finished,
    load_curves,
    mean_ignoring_gaps,
)
from keras_svag.report.labels import keep_within
from keras_svag.report.series import draw_curve, label_ends
from keras_svag.report.style import label_x, panels
from keras_svag.report.ticks import set_log_scale
from keras_svag.studies.base.wording import log_curve, main_metric_curve


def build_figures(arms, table, workdir):
    """Returns a `Drawing` for each batch size, with the curves of its methods."""
    metric, drawings = main_metric_curve(table), []
    for batch_size in dict.fromkeys(arm["batch_size"] for arm in arms):
        methods = [arm for arm in arms if arm["batch_size"] == batch_size]
        drawings.append(
            Drawing(
                f"methods_b{batch_size}",
                f"Methods at batch size {batch_size}",
                "Mean over seeds against continuous time (sum of learning rate / steps per unit of "
                "time). Solid: mini-batch noise; dashed: Gaussian noise; dotted: smaller batches; "
                "dash-dotted: noise with the second moment of SGD's steps. All others of the same "
                "color take steps of the same mean and covariance.",
                functools.partial(draw_methods, workdir, methods, metric),
            )
        )
    return drawings


def draw_methods(workdir, arms, metric):
    """Draws the curves of the methods against continuous time."""
    curves = (metric, log_curve("train_loss"), log_curve("weight_norm"))
    figure, axes = panels(len(curves))
    colors = dict(zip(dict.fromkeys(arm["noise_steps"] for arm in arms), (SGD_COLOR, *COLORS)))
    for axis, (name, label, scale) in zip(axes, curves):
        for arm in arms:
            if not (rows := finished(arm["rows"])):
                continue
            times, values = load_curves(workdir, rows, name, axis="time")
            style = {"color": colors[arm["noise_steps"]], "ls": _dashes(arm["method"])}
            draw_curve(axis, times, mean_ignoring_gaps(values), arm["method"], **style)
        if scale == "log":
            set_log_scale(axis)
        keep_within(axis, name)
        axis.set_ylabel(label)
    label_x(axes, "time (sum of η)")
    label_ends(axes)
    return figure


def _dashes(method):
    if method.startswith("SecondMoment"):
        return "-."
    if method == "NGD" or method.startswith("Gaussian"):
        return "--"
    return ":" if "/" in method else "-"
