"""Series: a line with its band and bars, of one name in all panels of a figure.

A report shows the values of a series and can hide it, so all its artists carry its name.
"""

import math

import matplotlib
import matplotlib.colors
from matplotlib.transforms import offset_copy

from keras_svag.report.style import line_width

PREFIX = "series: "
# A clear gap between labels, in units of the font size.
GAP = 1.2


def tag(name):
    """Returns the keyword arguments that make an artist part of a series."""
    return {"gid": PREFIX + name}


def draw_curve(axis, x, y, name, color, band=None, width=1.0, **style):
    """Draws a line, and the band between two arrays."""
    axis.plot(x, y, label=name, color=color, lw=line_width(width), **tag(name), **style)
    if band is not None:
        axis.fill_between(x, *band, color=color, alpha=0.15, lw=0, **tag(name))


def draw_bar(axis, x, interval, name, color):
    """Draws an interval as a vertical bar, if it has ends."""
    if math.isfinite(interval.ci_low) and math.isfinite(interval.ci_high):
        ends = interval.ci_low, interval.ci_high
        axis.vlines(x, *ends, color=color, lw=line_width(0.7), **tag(name))


def label_ends(axes):
    """Writes the name of each series at its end, right of the upper right panel."""
    axis = axes[axes[0].get_gridspec().ncols - 1]
    ends = [(line, end) for line in axis.lines if (end := _end(line)) is not None]
    if not ends:
        return
    height = axis.get_position().height * axis.figure.get_figheight() * 72
    axis.set_ylim(axis.get_ylim())  # brings the limits up to date
    to_axis = axis.transScale + axis.transLimits
    placed = [(to_axis.transform(end)[1] * height, line, end) for line, end in ends]
    placed.sort(key=lambda item: item[0])
    font = matplotlib.rcParams["font.size"]
    places = spread([place for place, *_ in placed], GAP * font, height)
    for (before, line, end), place in zip(placed, places):
        transform = offset_copy(
            axis.get_yaxis_transform(), axis.figure, font, place - before, units="points"
        )
        color = line.get_color()
        arrow = {"arrowstyle": "-", "color": color, "lw": 0.5, "shrinkA": 0, "shrinkB": 0}
        name, own = line.get_label(), tag(line.get_label())
        text = axis.annotate(
            name, end, (1.0, end[1]), textcoords=transform, va="center", color=darker(color),
            arrowprops={**arrow, "relpos": (0, 0.5)}, **own,
        )  # fmt: skip
        text.arrow_patch.set(**own)


def _end(line):
    """Returns the rightmost finite point of a named line, or `None`."""
    if line.get_label().startswith("_"):
        return None
    points = [tuple(point) for point in line.get_xydata() if all(map(math.isfinite, point))]
    return max(points, default=None)


def spread(places, gap, height):
    """Moves sorted places as little as possible so that they are `gap` apart, within `height`."""
    groups: list[list[float]] = []  # mean place of the first of a group, and its size
    for i, place in enumerate(places):
        groups.append([place - i * gap, 1])
        while groups[1:] and groups[-2][0] > groups[-1][0]:
            (a, m), (b, n) = groups[-2:]
            groups[-2:] = [[(m * a + n * b) / (m + n), m + n]]
    firsts = [first for first, size in groups for _ in range(int(size))]
    highest = max(0.0, height - (len(places) - 1) * gap)
    return [min(max(first, 0.0), highest) + i * gap for i, first in enumerate(firsts)]


def darker(color):
    """Returns a color in which small text can be read on white."""
    return tuple(0.6 * part for part in matplotlib.colors.to_rgb(color))


def lighter(color):
    """Returns a color for what lies behind lines of that color."""
    return tuple(1 - 0.45 * (1 - part) for part in matplotlib.colors.to_rgb(color))
