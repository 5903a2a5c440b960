"""The paper's figure of linear scaling: one's own runs beside the published curves.

Li, Malladi, Arora 2021 (arXiv 2102.12470): G/N in equilibrium and test error on CIFAR-10 by batch
size, learning rate in proportion. Read off the published figure: within 3 % in G/N and 0.003 in the
error.
"""

import dataclasses
import math

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from keras_svag.report.drawing import COLORS, set_plain_log_scale
from keras_svag.report.points import draw_point, label_outcomes, mark_failures
from keras_svag.theory import Interval


@dataclasses.dataclass(frozen=True)
class PublishedCurve:
    """One network of the figure; the tuples run over `batch_sizes`."""

    network: str
    batch_sizes: tuple[int, ...]
    signal_to_noise: tuple[float, ...]
    test_error: tuple[float, ...]


_SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
PUBLISHED = (
    PublishedCurve(
        "PreResNet with batch norm",
        _SIZES[1:],
        (0.0049, 0.0072, 0.0114, 0.0222, 0.0441, 0.0774, 0.173, 0.356, 1.52, 4.49),
        (0.085, 0.078, 0.074, 0.075, 0.078, 0.075, 0.077, 0.084, 0.124, 0.165),
    ),
    PublishedCurve(
        "PreResNet with group norm",
        _SIZES,
        (0.0107, 0.0286, 0.0443, 0.088, 0.168, 0.283, 0.632, 1.44, 2.89, 9.91, 17.3),
        (0.094, 0.100, 0.098, 0.096, 0.097, 0.103, 0.107, 0.117, 0.139, 0.196, 0.527),
    ),
    PublishedCurve(
        "VGG-19 with group norm",
        _SIZES,
        (0.0068, 0.0154, 0.0292, 0.0764, 0.129, 0.229, 0.433, 0.768, 2.08, 3.49, 7.51),
        (0.087, 0.086, 0.089, 0.089, 0.092, 0.096, 0.095, 0.104, 0.126, 0.236, 0.541),
    ),
)


DASHES = ("-", "--", ":")


def signal_to_noise(setting):
    """Returns the interval of G/N of a setting; `None` unless its mean is positive."""
    ratio = setting.get("noise_to_signal")
    if ratio is None or not 0 < ratio.mean < math.inf:
        return None
    low = 1 / ratio.ci_high if ratio.ci_high > 0 else 0.0
    return Interval(1 / ratio.mean, low, 1 / ratio.ci_low if ratio.ci_low > 0 else math.inf)


def final_error(setting):
    """Returns the interval of the test error of a setting; `None` without test accuracy."""
    accuracy = setting.get("test_accuracy")
    if accuracy is None:
        return None
    return Interval(1 - accuracy.mean, 1 - accuracy.ci_high, 1 - accuracy.ci_low)


def has_errors(settings):
    """Returns True if test accuracy was recorded."""
    return any(final_error(setting) for setting in settings)


def shaded_spans(settings, ratio):
    """Returns the ends of the batch sizes whose test error is over `ratio` times the best."""
    errors = [final_error(setting) for setting in settings]
    best = min((error.mean for error in errors if error), default=math.nan)
    sizes = [setting["batch_size"] for setting in settings]
    # Halfway, on a logarithmic axis, to the next batch size.
    inner = [math.sqrt(a * b) for a, b in zip(sizes, sizes[1:])]
    if not inner:
        return []
    ends = [sizes[0] ** 2 / inner[0], *inner, sizes[-1] ** 2 / inner[-1]]
    spans: list[tuple[float, float]] = []
    for error, low, high in zip(errors, ends, ends[1:]):
        # Where every run failed there is no test error, which is worse.
        if error is not None and not error.mean > ratio * best:
            continue
        if spans and spans[-1][1] == low:
            low = spans.pop()[0]
        spans.append((low, high))
    return spans


def draw_paper_figure(details):
    """Draws G/N, and test error if there is any, against batch size, as the paper does."""
    settings, ratio = details["settings"], details["test_error_ratio"]
    panels = [("G/N in equilibrium", signal_to_noise, "signal_to_noise")]
    if has_errors(settings):
        panels.append(("test error", final_error, "test_error"))
    figure = Figure(figsize=(11, 4.4) if panels[1:] else (8, 4.4), layout="constrained")
    axes = list(figure.subplots(1, len(panels), squeeze=False).flat)
    spans = shaded_spans(settings, ratio) if panels[1:] else []
    for axis, (title, interval_of, published) in zip(axes, panels):
        _draw_runs(axis, settings, interval_of, published)
        if axis is axes[0]:
            limit = details["closeness"] ** 2
            style = {"color": COLORS[3], "ls": "--", "lw": 1.4}
            axis.axhline(limit, label=f"G/N = C² = {limit:.3g}", **style)
        for i, span in enumerate(spans):
            label = None if i else f"test error above {ratio:g} × lowest"
            axis.axvspan(*span, color="0.5", alpha=0.15, lw=0, label=label)
        for curve, dashes in zip(PUBLISHED, DASHES):
            style = {"color": "0.4", "lw": 0.9, "ls": dashes, "label": f"paper: {curve.network}"}
            axis.plot(curve.batch_sizes, getattr(curve, published), **style)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(LogLocator(base=2, numticks=20))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        set_plain_log_scale(axis)
        axis.set_title(title, loc="left")
        axis.set_xlabel("batch size")
    label_outcomes(axes[0], settings)
    mark_failures(axes[0], settings, "batch_size")
    handles, labels = axes[0].get_legend_handles_labels()
    # In columns of three: own runs and limits, the paper's networks, outcomes.
    figure.legend(handles, labels, loc="outside upper center", ncols=math.ceil(len(labels) / 3))
    return figure


def _draw_runs(axis, settings, interval_of, published):
    """Draws the study's own runs; intervals without an end reach the edge of the axis."""
    found = [(setting, interval_of(setting)) for setting in settings]
    found = [(setting, value) for setting, value in found if value and value.mean > 0]
    means = [value.mean for _, value in found]
    everything = [*means, *(number for c in PUBLISHED for number in getattr(c, published))]
    bottom, top = min(everything) / 2, 2 * max(everything)
    axis.set_ylim(bottom, top)
    sizes = [setting["batch_size"] for setting, _ in found]
    axis.plot(sizes, means, color=COLORS[0], lw=1.2, label="this study")
    for setting, value in found:
        low, high = max(value.ci_low, bottom), min(value.ci_high, top)
        if (low, high) == (bottom, top):  # no interval
            low = high = value.mean
        draw_point(axis, setting["batch_size"], Interval(value.mean, low, high), setting["outcome"])
