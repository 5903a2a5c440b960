"""Figures inside a page: SVG with text that follows the page, and the values behind it."""

import io
import math
import re

import matplotlib
from matplotlib.collections import LineCollection

from keras_svag.report.series import PREFIX
from keras_svag.report.style import NOTEBOOK, style_of

# Drawn for a wide page and for a phone.
WIDE, NARROW = NOTEBOOK, "paper_column"
DIGITS = 6
DECIMALS = re.compile(r"(\.\d\d)\d+")  # a hundredth of a point is enough


def draw_chart(drawing, size):
    """Returns the SVG of a `Drawing`, and its panels with their series, for a script to show."""
    style = {"svg.fonttype": "none", "svg.hashsalt": f"{drawing.name} {size}"}
    buffer = io.StringIO()
    with matplotlib.rc_context(style_of(size, style)):
        figure = drawing.draw()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    # Saving has put the panels in their places.
    svg, panels = to_inline(buffer.getvalue(), drawing.title), describe_panels(figure)
    return {"svg": svg, "panels": panels, "name": "wide" if size == WIDE else "narrow"}


def to_inline(svg, title):
    """Returns SVG to be placed in a page: without header, links, and what would be there twice."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(rf'id="{PREFIX}([^"]*)"', r'data-series="\1"', svg)
    used = set(re.findall(r"(?:url\(|href=\")#([^\")]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r' (?:d|x|y)="[^"]*"', lambda found: DECIMALS.sub(r"\1", found[0]), svg)
    # The page has the font; its size stays.
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_escape(title)}"', 1)


def _escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def describe_panels(figure):
    """Returns, for each panel with series, its place in points, its x axis and its series."""
    panels = []
    for axis in figure.axes:
        if series := _series_of(axis):
            box = axis.get_position()
            width, height = (72 * inches for inches in figure.get_size_inches())
            place = box.x0 * width, (1 - box.y1) * height, box.width * width, box.height * height
            panels.append(
                {
                    "box": [round(number, 1) for number in place],
                    # Of the panel below, if it has none.
                    "x": next((text for other in figure.axes if (text := other.get_xlabel())), ""),
                    "y": axis.get_ylabel(),
                    "limits": [_rounded(number) for number in axis.get_xlim()],
                    "log": axis.get_xscale() == "log",
                    "series": series,
                }
            )
    return panels


def _series_of(axis):
    """Returns color and points `[x, y]`, or `[x, y, low, high]`, of each series of an axis."""
    # A bar without length is no interval, and an end at the edge of the axis is open.
    edges = axis.get_ylim()
    bars = {
        (bar.get_gid(), x): [None if end in edges else end for end in ends]
        for bar in axis.collections
        for x, ends in _bars(bar)
        if ends[0] < ends[1]
    }
    series: dict[str, dict] = {}
    for line in axis.lines:
        gid = line.get_gid() or ""
        # Lines without markers or name only lead to points.
        is_named = not line.get_label().startswith("_") or line.get_marker() != "None"
        if gid.startswith(PREFIX) and is_named:
            color = line.get_color() if line.get_linestyle() != "None" else line.get_mec()
            new = {"color": matplotlib.colors.to_hex(color), "points": {}}
            found = series.setdefault(gid.removeprefix(PREFIX), new)
            for x, y in line.get_xydata().tolist():
                if math.isfinite(x) and math.isfinite(y):
                    point = x, y, *bars.get((gid, x), ())
                    found["points"][x] = [_rounded(number) for number in point]
    for found in series.values():
        found["points"] = sorted(found["points"].values())
    return {name: found for name, found in series.items() if found["points"]}


def _bars(collection):
    """Yields the x and the ends of vertical bars."""
    if isinstance(collection, LineCollection):
        for (x, low), (_, high) in (s.tolist() for s in collection.get_segments() if len(s) == 2):
            yield x, (low, high)


def _rounded(number):
    return None if number is None else float(f"{number:.{DIGITS}g}")
