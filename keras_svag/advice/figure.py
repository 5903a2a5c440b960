"""Figure of the advice over a run: noise scale, bound, and the learning-rate schedule."""

import math

import numpy as np

from keras_svag.theory import TIGHT


def draw(history, rows, size, style):
    """Returns a figure of three panels over the steps of the run, and a fourth over layers."""
    # Imported here: matplotlib is slow to import, and training does not need it.
    import matplotlib

    from keras_svag.report.drawing import COLORS, SGD_COLOR
    from keras_svag.report.style import StyledFigure, style_of

    known = [advice for advice in history if advice.is_known]
    with matplotlib.rc_context(style_of(size, style)):
        layers = _noise_scales_of_layers(rows)
        heights = (3, 3, 1.5, 3) if layers else (3, 3, 1.5)
        width = matplotlib.rcParams["figure.figsize"][0]
        # A whole column, or two thirds of a page.
        width *= 1 if size == "paper_column" else 2 / 3
        figure = StyledFigure(figsize=(width, 0.11 * width * sum(heights)), layout="constrained")
        noise, bound, rate, *rest = figure.subplots(len(heights), 1, height_ratios=heights)
        for axes in (noise, bound):
            axes.sharex(rate)
            axes.tick_params(labelbottom=False)
        _draw_intervals(noise, known, lambda advice: advice.noise_scale, COLORS[0])
        noise.set_title("Noise scale B N/G, in examples (95 %)", loc="left")
        _draw_intervals(bound, known, lambda advice: advice.max_kappa[TIGHT], SGD_COLOR)
        is_bound = not known or known[-1].is_bound
        what = "Largest factor on" if is_bound else "Guide to the factor on"
        size = f" {known[-1].batch_size}" if known else ""
        bound.set_title(f"{what} the batch size{size}", loc="left")
        rate.set_title("Learning rate", loc="left")
        rate.plot([row["step"] for row in rows], [row["last_rate"] for row in rows], color="0.3")
        rate.set_ylim(bottom=0)
        rate.set_xlabel("step")
        if layers:
            _draw_layers(rest[0], layers, COLORS[0])
    return figure


def _noise_scales_of_layers(rows):
    """Returns the noise scale of each layer over the latest quarter of the rows, or `{}`."""
    rows = [row for row in rows if "layers" in row]
    rows = rows[-max(1, len(rows) // 4) :]
    scales = {}
    for name in rows[-1]["layers"] if rows else ():
        noise, signal = np.mean([row["layers"][name] for row in rows], axis=0)
        scales[name] = noise / signal if signal > 0 else math.nan
    return scales


def _draw_layers(axes, layers, color):
    """Draws a point for each layer, in the order of the weights; none where G is not positive."""
    axes.set_title("Noise scale of each layer, latest quarter, in examples", loc="left")
    places = np.arange(len(layers))
    axes.plot(places, list(layers.values()), color=color, marker="o", markersize=3, linestyle="")
    axes.set_xticks(places, list(layers), rotation=90, fontsize=6 if len(layers) > 12 else 8)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_ylim(bottom=0)


def _draw_intervals(axes, history, interval_of, color):
    """Draws estimates at the ends of their windows, with a band of 95 %."""
    found = [(advice.steps[1], interval_of(advice)) for advice in history]
    found = [(step, interval) for step, interval in found if math.isfinite(interval.mean)]
    if not found:
        return
    steps = [step for step, _ in found]
    means = np.array([interval.mean for _, interval in found])
    lows = np.array([max(interval.ci_low, 0) for _, interval in found])
    highs = np.array([interval.ci_high for _, interval in found])
    # Where there is no upper end, the band leaves the panel.
    top = max(2 * means.max(), 1.1 * highs[highs <= 4 * means.max()].max(initial=0.0))
    axes.fill_between(steps, lows, np.minimum(highs, 2 * top), color=color, alpha=0.2, linewidth=0)
    axes.plot(steps, means, color=color, marker="o", markersize=3)
    axes.set_ylim(0, top)
