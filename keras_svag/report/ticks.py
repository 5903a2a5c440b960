"""Ticks of logarithmic axes: few and plain numbers, also after limits are set by hand."""

import math
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.ticker import FixedLocator, Formatter, Locator, MaxNLocator, NullLocator

# Multiples of a power of ten, from the densest.
MULTIPLES = (
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 8),
    (1, 1.5, 2, 3, 4, 6),
    (1, 2, 5),
    (1, 3),
    (1,),
)
MOST, FEWEST = 6, 3
GAP = 1 / 8  # smallest distance of two ticks, in lengths of the axis
PLAIN = 1e-4, 1e4  # outside of these, all ticks are written as powers of ten
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class LogTicks(Locator):
    """Ticks at round numbers of a logarithmic axis, however many decades it spans."""

    def __call__(self):
        """Returns the ticks between the present limits of the axis."""
        axis: Any = self.axis
        return self.tick_values(*axis.get_view_interval())

    def tick_values(self, vmin, vmax):
        """Returns the ticks between two limits."""
        low, high = sorted((vmin, vmax))
        if not 0 < low < high < math.inf:
            return []
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for multiples in MULTIPLES:
            numbers = [m * 10.0**d for d in decades for m in multiples]
            ticks = [number for number in numbers if low <= number <= high]
            gap = GAP * math.log(high / low)
            if len(ticks) <= MOST and all(math.log(b / a) > gap for a, b in pairwise(ticks)):
                break
        if len(ticks) < FEWEST and high < 10 * low:
            steps = MaxNLocator(MOST - 1, steps=[1, 2, 5, 10]).tick_values(low, high)
            return [tick for tick in steps if low <= tick <= high]
        return ticks[:: math.ceil(len(ticks) / MOST)]


class LogTickLabels(Formatter):
    """Writes ticks as plain numbers, or all as powers of ten where some are long."""

    def __call__(self, x, pos=None):
        """Returns the label of a number by itself."""
        return self.format_ticks([x])[0]

    def format_ticks(self, values):
        """Returns the labels of all ticks of an axis."""
        positive = [value for value in values if value > 0]
        is_plain = not positive or PLAIN[0] <= min(positive) and max(positive) <= PLAIN[1]
        return [f"{value:.10g}" if is_plain else _as_power(value) for value in values]


def _as_power(number):
    if not number > 0:
        return ""
    exponent = math.floor(math.log10(number) + 1e-9)
    factor = f"{number / 10.0**exponent:.3g}"
    power = "10" + str(exponent).translate(SUPERSCRIPTS)
    return power if factor == "1" else f"{factor}·{power}"


def set_log_scale(axis):
    """Makes the y axis logarithmic if it has positive data; returns True if it has."""
    is_positive = math.isfinite(axis.dataLim.minposy)
    if is_positive:
        axis.set_yscale("log", nonpositive="clip")  # a bar from below zero goes down to the axis
        _set_log_ticks(axis.yaxis)
    return is_positive


def _set_log_ticks(axis):
    axis.set_major_locator(LogTicks())
    axis.set_major_formatter(LogTickLabels())
    axis.set_minor_locator(NullLocator())


def set_binary_scale(axis, values):
    """Makes the x axis logarithmic, with ticks at values such as batch sizes, as many as fit."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_minor_locator(NullLocator())
    texts = [f"{value:g}" for value in values]
    width = axis.get_position().width * axis.figure.get_figwidth() * 72
    needed = (0.65 * max(map(len, texts), default=1) + 1.2) * matplotlib.rcParams["font.size"]
    step = max(1, math.ceil(len(values) * needed / width))
    axis.xaxis.set_major_locator(FixedLocator(values[::step]))
    axis.xaxis.set_major_formatter("{x:g}")
