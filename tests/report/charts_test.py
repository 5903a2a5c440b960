"""Tests of keras_svag/report/charts.py: figures inside a page, with the values behind them."""

import re
import xml.etree.ElementTree

import pytest
from matplotlib.figure import Figure

from keras_svag.report.charts import NARROW, WIDE, draw_chart
from keras_svag.report.drawing import Drawing
from keras_svag.report.series import draw_bar, draw_curve
from keras_svag.report.style import label_x, panels
from keras_svag.theory import Interval

POINTS = {1.0: 0.123456, 10.0: 2.0, 100.0: 3.0}


def draw():
    figure, axes = panels(4)
    for axis in axes:
        axis.set_xscale("log")
        draw_curve(axis, list(POINTS), list(POINTS.values()), "ℓ = 2 <b>", "#0072b2", marker="o")
        draw_bar(axis, 10.0, Interval(2.0, 1.5, 2.5), "ℓ = 2 <b>", "#0072b2")
        axis.set_ylabel("‖x‖²")
        axis.axhline(1)  # no series
    label_x(axes, "ℓ")
    return figure


@pytest.fixture(scope="module", params=[WIDE, NARROW])
def chart(request):
    return draw_chart(Drawing("convergence", 'Where "it" <leads>', "", draw), request.param)


def test_values_are_those_that_were_drawn(chart):
    assert len(chart["panels"]) == 4
    for panel in chart["panels"]:
        assert (panel["x"], panel["y"], panel["log"]) == ("ℓ", "‖x‖²", True)
        [(name, series)] = panel["series"].items()
        assert name == "ℓ = 2 <b>" and series["color"] == "#0072b2"
        assert series["points"] == [[1.0, 0.123456], [10.0, 2.0, 1.5, 2.5], [100.0, 3.0]]


def test_no_interval_is_invented_where_a_bar_is_cut_or_none_is_known():
    def draw_cut():
        figure, [axis] = panels(1)
        axis.set_ylim(1.0, 4.0)
        draw_curve(axis, [1.0, 2.0], [2.0, 3.0], "own", "#0072b2", marker="o")
        draw_bar(axis, 1.0, Interval(2.0, 2.0, 2.0), "own", "#0072b2")
        draw_bar(axis, 2.0, Interval(3.0, 2.5, 4.0), "own", "#0072b2")
        return figure

    [panel] = draw_chart(Drawing("convergence", "", "", draw_cut), WIDE)["panels"]
    assert panel["series"]["own"]["points"] == [[1.0, 2.0], [2.0, 3.0, 2.5, None]]


def test_panels_are_where_they_are_drawn(chart):
    root = xml.etree.ElementTree.fromstring(chart["svg"])
    width, height = map(float, root.get("viewBox").split()[2:])
    boxes = [panel["box"] for panel in chart["panels"]]
    assert all(x > 0 and y > 0 and x + w <= width and y + h <= height for x, y, w, h in boxes)
    # The background of each panel is a rectangle, from its lower left corner.
    corners = re.findall(r'd="M ([\d.]+) ([\d.]+) \s*L ([\d.]+) \2 ', chart["svg"])
    for x, y, w, h in boxes:
        found = [(float(a), float(b), float(c)) for a, b, c in corners]
        assert any(max(abs(a - x), abs(b - y - h), abs(c - x - w)) < 0.2 for a, b, c in found)


def test_series_can_be_found(chart):
    marked = re.findall(r'data-series="([^"]*)"', chart["svg"])
    assert set(marked) == {"ℓ = 2 &lt;b&gt;"}
    assert len(marked) == 4 * 2  # line and bar


def test_svg_needs_nothing_and_disturbs_nothing(chart):
    svg = chart["svg"]
    assert svg.startswith('<svg role="img" aria-label="Where &quot;it&quot; &lt;leads>"')
    assert "http" not in svg and "metadata" not in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(set(ids)) == len(ids)
    assert all(f"#{name}" in svg for name in ids)
    assert "‖x‖²" in svg  # text, not outlines


def test_ids_of_two_figures_differ():
    first, second = (draw_chart(Drawing(name, name, "", draw), WIDE)["svg"] for name in "ab")
    assert not set(re.findall(r' id="([^"]*)"', first)) & set(re.findall(r' id="([^"]*)"', second))


def test_figure_of_ones_own():
    def plain():
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([1, 2])
        return figure

    chart = draw_chart(Drawing("loss", "Loss", "", plain), WIDE)
    assert chart["panels"] == [] and chart["svg"].startswith("<svg")
