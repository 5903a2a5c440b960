"""Figure of the advice over a run: noise scale, bound, and the learning-rate schedule."""

import math

import numpy as np

from keras_svag.theory import TIGHT


def draw(history, rows):
    """Returns a figure of three panels over the steps of the run."""
    # Imported here: matplotlib is slow to import, and training does not need it.
    import matplotlib
    from matplotlib.figure import Figure

    from keras_svag.report.drawing import COLORS, SGD_COLOR, STYLE

    known = [advice for advice in history if advice.is_known]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5.2), layout="constrained")
        noise, bound, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1.5))
        _draw_intervals(noise, known, lambda advice: advice.noise_scale, COLORS[0])
        noise.set_title("Simple noise scale B N/G, in examples (band: 95 %)", loc="left")
        _draw_intervals(bound, known, lambda advice: advice.max_kappa[TIGHT], SGD_COLOR)
        is_bound = not known or known[-1].is_bound
        what = "Largest factor on" if is_bound else "Guide to the factor on"
        size = f" {known[-1].batch_size}" if known else ""
        bound.set_title(f"{what} the batch size{size}", loc="left")
        rate.set_title("Learning rate", loc="left")
        rate.plot([row["step"] for row in rows], [row["last_rate"] for row in rows], color="0.3")
        rate.set_ylim(bottom=0)
        rate.set_xlabel("step")
    return figure


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
