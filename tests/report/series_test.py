"""Tests of keras_svag/report/series.py and labels.py: names at the ends of lines, fractions."""

import itertools
import math

import matplotlib
import pytest
from matplotlib.text import Text

from keras_svag.report.labels import clip, keep_within, label_of
from keras_svag.report.series import draw_curve, label_ends, spread
from keras_svag.report.style import panels, style_of
from keras_svag.theory import Interval


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([10, 50, 90], [10, 50, 90]),
        ([50, 50], [45, 55]),
        ([40, 50, 52], [37.333, 47.333, 57.333]),
        ([0, 1, 60], [0, 10, 60]),  # not below the axis
        ([98, 99, 100], [80, 90, 100]),  # nor above
    ],
)
def test_places_are_moved_as_little_as_possible(places, expected):
    assert spread(places, 10, 100) == pytest.approx(expected, abs=1e-3)


def test_more_labels_than_fit_still_have_their_gaps():
    assert spread([5, 5, 5], 10, 12) == [0, 10, 20]


def extent(text):
    """The box of an annotation without its line."""
    return Text.get_window_extent(text)


def test_names_are_at_the_ends_and_do_not_overlap():
    with matplotlib.rc_context(style_of("paper_column")):
        figure, axes = panels(2)
        for axis in axes:
            for name, end in {"a": 1.0, "b": 1.01, "c": 1.02, "d": 3.0}.items():
                draw_curve(axis, [0, 1, 2], [2, end, math.nan], name, "C0")
            axis.plot([0, 1], [5, 5])  # of no name
        label_ends(axes)
        figure.draw_without_rendering()
    # The panel at the right has them.
    assert not axes[0].texts
    texts = sorted(axes[1].texts, key=lambda text: extent(text).y0)
    assert [text.get_text() for text in texts] == ["a", "b", "c", "d"]
    boxes = [extent(text) for text in texts]
    assert all(a.y1 <= b.y0 for a, b in itertools.pairwise(boxes))
    right = axes[1].get_window_extent().x1
    assert all(right < box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert texts[3].xy == (1.0, 3.0)


def test_without_lines_there_are_no_names():
    with matplotlib.rc_context(style_of()):
        _, axes = panels(1)
        label_ends(axes)
    assert not axes[0].texts


def test_symbols():
    symbols = {"weight_norm": "‖x‖²", "gradient_noise": "Tr Σ", "scaled_noise": "B Tr Σ"}
    assert all(symbol in label_of(column) for column, symbol in symbols.items())
    assert label_of("test_loss") == "test loss"


def test_accuracy_ends_at_zero_and_one():
    wide = Interval(0.97, 0.9, 1.04)
    assert clip(wide, "final_test_accuracy") == Interval(0.97, 0.9, 1.0)
    assert clip(Interval(0.02, -0.1, 0.2), "test_accuracy") == Interval(0.02, 0.0, 0.2)
    assert clip(wide, "weight_norm") == wide and clip(None, "test_accuracy") is None
    unknown = Interval(0.97, -math.inf, math.inf)
    assert clip(unknown, "test_accuracy") == unknown
    axis = matplotlib.figure.Figure().subplots()
    axis.plot([0, 1], [0.5, 1.0])
    keep_within(axis, "loss")
    assert axis.get_ylim()[1] > 1
    keep_within(axis, "accuracy")
    assert axis.get_ylim()[1] == 1 and axis.get_ylim()[0] > 0
