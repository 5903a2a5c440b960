"""Figures of the study: curves of the methods over training."""

import functools

from matplotlib.figure import Figure

from keras_svag.report.drawing import (
    COLORS,
    SGD_COLOR,
    Drawing,
    finished,
    load_curves,
    mean_ignoring_gaps,
    set_plain_log_scale,
)
from keras_svag.studies.base.wording import main_metric_curve


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
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    curves = (metric, ("train_loss", "train loss", "log"), ("weight_norm", "R = |x|²", "log"))
    axes = figure.subplots(1, len(curves))
    colors = dict(zip(dict.fromkeys(arm["noise_steps"] for arm in arms), (SGD_COLOR, *COLORS)))
    for axis, (name, label, scale) in zip(axes, curves):
        for arm in arms:
            rows = finished(arm["rows"])
            if not rows:
                continue
            times, values = load_curves(workdir, rows, name, axis="time")
            gaussian = arm["method"] == "NGD" or arm["method"].startswith("Gaussian")
            style = "--" if gaussian else ":" if "/" in arm["method"] else "-"
            style = "-." if arm["method"].startswith("SecondMoment") else style
            color = colors[arm["noise_steps"]]
            mean = mean_ignoring_gaps(values)
            axis.plot(times, mean, style, color=color, label=arm["method"], lw=1.4)
        if scale == "log":
            set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("time (sum of learning rates)")
    axes[0].legend(loc="lower right")
    return figure
