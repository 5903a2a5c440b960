"""Tests of keras_svag/report/text.py: plain text, and tables that fit a terminal."""

import io
import sys

import pytest
from rich.text import Text

from keras_svag.report.text import Sheet, show

HEADINGS = ("B", "ell", "seeds", "N", "G", "N/G", "R", "train loss", "test accuracy", "outcome")
ROWS = [
    (f"{b}", f"{ell}", "4", "0.01505 +- 0.0007", "0.05712 +- 0.015", "0.08115 (no interval)")
    + ("121.2 +- 13", "0.4657 +- 0.061", "0.9583 +- 0.015", "inconclusive")
    for b in (8, 256)
    for ell in (1, 2)
]
REASON = "Batch size 8 (4 seeds): valid. SGD agrees with the SDE. " + "It goes on. " * 12
SHEET = Sheet([HEADINGS, *ROWS], REASON)


class Terminal(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.fixture
def shown(monkeypatch):
    """A function: what a terminal shows of a text."""

    def shown(text, columns, no_color="", encoding="utf-8"):
        for name, value in {"TERM": "xterm", "COLUMNS": columns, "NO_COLOR": no_color}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        stream = Terminal(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        show(text)
        stream.flush()
        return stream.buffer.getvalue().decode(encoding)

    return shown


def lines_of(text):
    return Text.from_ansi(text).plain.splitlines()


def test_plain_text_is_the_same_as_the_string(capsys):
    show(SHEET)
    assert capsys.readouterr().out == SHEET + "\n"
    lines = SHEET.splitlines()
    assert lines[1].split()[:5] == ["8", "1", "4", "0.01505", "+-"]
    assert len({len(line) for line in lines[:5]}) == 1 and lines[5:] == ["", REASON]


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120, 200])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_cut(shown, columns):
    text = shown(SHEET, columns)
    assert all(len(line.rstrip()) <= columns for line in lines_of(text))
    assert "…" not in text
    words = text.replace("±", "").split()
    for row in ROWS:
        for word in " ".join(row).replace("+-", "").replace("(no interval)", "?").split():
            assert any(word in found for found in words), word


def test_rows_of_a_split_table_keep_their_keys(shown):
    lines = [line.split() for line in lines_of(shown(SHEET, 80))]
    assert sum(line[:2] == ["B", "ell"] for line in lines) == 2
    last = [line for line in lines if line[2:] == ["inconclusive"]]
    assert [line[:2] for line in last] == [[b, ell] for b in ("8", "256") for ell in ("1", "2")]


def test_a_table_that_fits_is_not_wrapped(shown):
    lines = lines_of(shown(SHEET, 200))
    assert lines[1].split() == [
        *("8", "1", "4", "0.01505", "±0.0007", "0.05712", "±0.015", "0.08115", "±?", "121.2"),
        *("±13", "0.4657", "±0.061", "0.9583", "±0.015", "inconclusive"),
    ]


def test_colors_of_outcomes(shown):
    assert "\x1b[1;32mvalid" in shown(SHEET, 120)
    assert "\x1b[1;33minconclusive" in shown(SHEET, 120)
    assert "\x1b[1;32mvalid" not in shown(Sheet("SGD is invalid."), 120)
    assert "\x1b[3" not in shown(SHEET, 120, no_color="1")


def test_a_terminal_without_unicode(shown):
    assert "0.01505 +- 0.0007" in shown(SHEET, 200, encoding="ascii")


def test_text_of_a_study_without_tables(shown):
    assert lines_of(shown("Network: order 1", 80)) == ["Network: order 1"]


def test_sheet_below_a_paragraph():
    assert Sheet.below("3 of 4 runs", SHEET) == f"3 of 4 runs\n\n{SHEET}"
    assert Sheet.below("3 of 4 runs", SHEET).parts[1:] == SHEET.parts
    assert Sheet.below("3 of 4 runs", "plain") == "3 of 4 runs\n\nplain"
