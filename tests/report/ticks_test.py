"""Tests of keras_svag/report/ticks.py: few, plain numbers, at any limits."""

import itertools
import math

import pytest
from matplotlib.figure import Figure

from keras_svag.report.ticks import GAP, MOST, LogTicks, set_binary_scale, set_log_scale


def axis_with(low, high):
    axis = Figure(figsize=(3, 3)).subplots()
    axis.plot([1, 2, 4], [low, low, high])
    assert set_log_scale(axis)
    axis.set_ylim(low, high)
    return axis


def labels(axis):
    axis.figure.draw_without_rendering()
    low, high = axis.get_ylim()
    ticks = zip(axis.get_yticks(), axis.get_yticklabels())
    return [label.get_text() for tick, label in ticks if low <= tick <= high]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.3, 2, ["0.3", "0.4", "0.6", "1", "1.5", "2"]),
        (15, 170, ["20", "50", "100"]),
        (0.005, 50, ["0.01", "0.1", "1", "10"]),
        (0.95, 0.992, ["0.95", "0.96", "0.97", "0.98", "0.99"]),
        (2e-7, 3e-1, ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹"]),
        (2e-5, 9e-5, ["2·10⁻⁵", "3·10⁻⁵", "4·10⁻⁵", "6·10⁻⁵"]),
        (1e3, 2e6, ["10³", "10⁴", "10⁵", "10⁶"]),
    ],
)
def test_labels(low, high, expected):
    assert labels(axis_with(low, high)) == expected


def test_ticks_follow_limits_set_by_hand():
    axis = axis_with(0.005, 50)
    axis.set_ylim(0.3, 2)
    assert labels(axis) == ["0.3", "0.4", "0.6", "1", "1.5", "2"]
    assert len(axis.get_yticks(minor=True)) == 0


@pytest.mark.parametrize("low", [1.0, 1.7, 3e-5, 8e3])
@pytest.mark.parametrize("factor", [1.01, 1.3, 2, 5, 12, 80, 1e3, 1e6, 1e15])
def test_ticks_are_few_but_not_alone(low, factor):
    ticks = LogTicks().tick_values(low, low * factor)
    assert 1 <= len(ticks) <= MOST
    assert len(ticks) >= 2 or factor == 12
    assert all(low <= tick <= low * factor for tick in ticks)
    if factor > 10:
        gaps = [math.log(b / a) for a, b in itertools.pairwise(ticks)]
        assert all(gap > GAP * math.log(factor) for gap in gaps)


def test_axis_without_positive_data_stays_linear():
    axis = Figure().subplots()
    axis.plot([0, 1], [-1, 0])
    assert not set_log_scale(axis) and axis.get_yscale() == "linear"


@pytest.mark.parametrize(("inches", "expected"), [(9, 8), (1.6, 4)])
def test_as_many_batch_sizes_as_fit(inches, expected):
    axis = Figure(figsize=(inches, 2)).subplots()
    set_binary_scale(axis, [4, 8, 16, 32, 64, 128, 256, 512])
    axis.figure.draw_without_rendering()
    texts = [label.get_text() for label in axis.get_xticklabels()]
    assert texts[0] == "4" and len(texts) <= expected
    boxes = [label.get_window_extent() for label in axis.get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))
