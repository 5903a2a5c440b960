"""Tests of keras_svag/report/style.py: sizes in inches, rows of panels, fonts, legends."""

import io
import re

import matplotlib
import pytest

from keras_svag.report.series import draw_curve
from keras_svag.report.style import SIZES, add_legend, label_x, panels, style_of

WIDTHS = {"notebook": 9.0, "paper": 6.75, "paper_column": 3.3, "talk": 12.0}


def drawn(size, number=6, changes=None):
    with matplotlib.rc_context(style_of(size, changes)):
        figure, axes = panels(number)
        for axis in axes:
            draw_curve(axis, [0, 1], [1, 2], "‖x‖² of ℓ", "C0")
        label_x(axes, "steps / ℓ")
    return figure, axes


def saved(figure, kind):
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind)
    return buffer.getvalue()


@pytest.mark.parametrize("size", SIZES)
def test_width_in_inches(size):
    figure, _ = drawn(size)
    assert figure.get_figwidth() == WIDTHS[size]
    # Of the file too, whose box is in points.
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", saved(figure, "pdf"))
    assert float(box[1]) == pytest.approx(72 * WIDTHS[size], abs=0.01)


@pytest.mark.parametrize(
    ("size", "columns"), [("notebook", 3), ("paper", 3), ("paper_column", 2), ("talk", 3)]
)
def test_panels_are_in_as_many_rows_as_they_need(size, columns):
    figure, axes = drawn(size)
    assert len(axes) == len(figure.axes) == 6
    assert axes[0].get_gridspec().ncols == columns
    labeled = [axis for axis in axes if axis.get_xlabel()]
    assert labeled == axes[-columns:]


def test_a_slide_is_not_higher_than_the_screen():
    assert drawn("talk")[0].get_figheight() <= 6.75


def test_any_width():
    figure, axes = drawn("paper", number=3, changes={"figure.figsize": (5.0, 9.0)})
    assert figure.get_figwidth() == 5.0 and axes[0].get_gridspec().ncols == 3


def test_fonts_are_embedded_as_truetype():
    # Saved as a user does, far from the style.
    assert matplotlib.rcParams["pdf.fonttype"] != 42
    pdf = saved(drawn("paper")[0], "pdf")
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_files_are_the_same_each_time():
    first, second = (saved(drawn("paper_column")[0], "svg") for _ in range(2))
    date = re.compile(rb"<dc:date>.*?</dc:date>")
    assert date.sub(b"", first) == date.sub(b"", second)


def test_resolution_of_paper_is_for_print():
    header = saved(drawn("paper_column", number=1)[0], "png")[:24]
    assert int.from_bytes(header[16:20], "big") == round(3.3 * 300)


def test_unknown_size():
    with pytest.raises(ValueError, match="'paper_column'.*size='poster'.*figure.figsize"):
        style_of("poster")


def test_legend_has_what_is_not_named_elsewhere_and_takes_nothing_from_the_panels():
    with matplotlib.rc_context(style_of("paper_column")):
        figure, [axis] = panels(1)
        height = figure.get_figheight()
        draw_curve(axis, [0, 1], [1, 2], "ℓ = 2", "C0")
        add_legend(figure, axis)
        assert not figure.legends and figure.get_figheight() == height
        for name in ("predicted from the base runs", "observed"):
            axis.axhline(1, label=name)
        add_legend(figure, axis)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["predicted from the base runs", "observed"]
    assert figure.get_figheight() > height
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
