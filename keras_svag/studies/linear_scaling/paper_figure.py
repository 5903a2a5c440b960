"""The paper's figure of linear scaling: one's own runs beside the published curves.

Li, Malladi, Arora 2021 (arXiv 2102.12470): G/N in equilibrium and test error on CIFAR-10 by batch
size, learning rate in proportion. Read off the published figure: within 3 % in G/N and 0.003 in the
error.
"""

import dataclasses
import math

from keras_svag.report.drawing import COLORS
from keras_svag.report.labels import keep_within
from keras_svag.report.points import draw_point, label_outcomes, mark_failures
from keras_svag.report.series import darker, draw_curve, label_ends
from keras_svag.report.style import add_legend, label_x, line_width, panels
from keras_svag.report.ticks import set_binary_scale, set_log_scale
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
        "PreResNet BN",
        _SIZES[1:],
        (0.0049, 0.0072, 0.0114, 0.0222, 0.0441, 0.0774, 0.173, 0.356, 1.52, 4.49),
        (0.085, 0.078, 0.074, 0.075, 0.078, 0.075, 0.077, 0.084, 0.124, 0.165),
    ),
    PublishedCurve(
        "PreResNet GN",
        _SIZES,
        (0.0107, 0.0286, 0.0443, 0.088, 0.168, 0.283, 0.632, 1.44, 2.89, 9.91, 17.3),
        (0.094, 0.100, 0.098, 0.096, 0.097, 0.103, 0.107, 0.117, 0.139, 0.196, 0.527),
    ),
    PublishedCurve(
        "VGG-19 GN",
        _SIZES,
        (0.0068, 0.0154, 0.0292, 0.0764, 0.129, 0.229, 0.433, 0.768, 2.08, 3.49, 7.51),
        (0.087, 0.086, 0.089, 0.089, 0.092, 0.096, 0.095, 0.104, 0.126, 0.236, 0.541),
    ),
)


DASHES = ("-", "--", ":")
OWN = "this study"


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
    shown = [("G/N", signal_to_noise, "signal_to_noise")]
    if has_errors(settings):
        shown.append(("test error", final_error, "test_error"))
    figure, axes = panels(len(shown), aspect=0.6, narrowest=22)
    spans = shaded_spans(settings, ratio) if shown[1:] else []
    sizes = sorted({*_SIZES, *(setting["batch_size"] for setting in settings)})
    for axis, (label, interval_of, published) in zip(axes, shown):
        _draw_runs(axis, settings, interval_of, published)
        for i, span in enumerate(spans):
            name = None if i else f"test error > {ratio:g} × lowest"
            axis.axvspan(*span, color="0.5", alpha=0.15, lw=0, label=name)
        for curve, dashes in zip(PUBLISHED, DASHES):
            numbers = getattr(curve, published)
            style = {"color": "0.35", "width": 0.7, "ls": dashes}
            draw_curve(axis, curve.batch_sizes, numbers, curve.network, **style)
        set_binary_scale(axis, sizes)
        set_log_scale(axis)
        if axis is not axes[0]:
            keep_within(axis, "test_accuracy")
        axis.set_ylabel(label)
    _draw_limit(axes[0], details["closeness"] ** 2)
    label_x(axes, "batch size B")
    label_outcomes(axes[0], settings)
    mark_failures(axes[0], settings, "batch_size")
    label_ends(axes)
    add_legend(figure, axes[0])
    return figure


def _draw_limit(axis, limit):
    axis.axhline(limit, color=COLORS[3], ls="--", lw=line_width())
    axis.annotate(
        f"C² = {limit:.3g}", (0.02, limit), xycoords=axis.get_yaxis_transform(), va="bottom",
        textcoords="offset points", xytext=(0, 1), color=darker(COLORS[3]),
    )  # fmt: skip


def _draw_runs(axis, settings, interval_of, published):
    """Draws the study's own runs; intervals without an end reach the edge of the axis."""
    found = [(setting, interval_of(setting)) for setting in settings]
    found = [(setting, value) for setting, value in found if value and value.mean > 0]
    means = [value.mean for _, value in found]
    everything = [*means, *(number for c in PUBLISHED for number in getattr(c, published))]
    bottom, top = min(everything) / 2, 2 * max(everything)
    axis.set_ylim(bottom, top)
    sizes = [setting["batch_size"] for setting, _ in found]
    draw_curve(axis, sizes, means, OWN, COLORS[0])
    for setting, value in found:
        low, high = max(value.ci_low, bottom), min(value.ci_high, top)
        if (low, high) == (bottom, top):  # no interval
            low = high = value.mean
        shown, size = Interval(value.mean, low, high), setting["batch_size"]
        draw_point(axis, size, shown, setting["outcome"], OWN)
