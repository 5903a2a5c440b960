"""Tests of progress.py and pace.py of keras_svag/engine/: a bar, or few lines in a file."""

import io
import sys

import pytest

from keras_svag.engine import progress
from keras_svag.engine.pace import Pace
from keras_svag.engine.progress import Progress
from keras_svag.engine.spec import RunSpec

KNOWN = "B=8 valid so far, 8 seeds"


def make_run(seed, batch_size=8, steps=100):
    return RunSpec(batch_size, 0.2, 1.0, seed, steps)


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: `clock[0] = seconds`."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class Terminal(io.StringIO):
    """Text that goes to a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch):
    """A function, as pytest replaces standard error between fixtures and tests."""

    def open_terminal(columns="80", no_color=""):
        environment = {"TERM": "xterm", "COLUMNS": columns, "NO_COLOR": no_color}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return open_terminal


def train(bar, run, clock, seconds, records=10):
    for _ in range(records):
        clock[0] += seconds / records
        bar.advance(run, run.steps // records)


def test_time_left_by_the_pace_of_each_program():
    # A step at batch size 256 takes 10 ms, at 8 only 1 ms; one run goes on at a time.
    small, large = make_run(0), make_run(0, batch_size=256)
    pace, now = Pace(lambda run: 2 * run.batch_size), 0.0
    for run, seconds in ((small, 0.01), (large, 0.1)):
        pace.note(run, 0, now)
        pace.note(run, 10, now := now + 5.0)  # its program was compiled
        for _ in range(10):
            pace.note(run, 10, now := now + seconds)
    assert pace.seconds_left({make_run(1): 100, make_run(1, 256): 50}) == pytest.approx(0.6)


def test_runs_side_by_side_share_the_time_but_the_longest_bounds_it():
    pace = Pace(lambda run: 16)
    first, second = make_run(0), make_run(1)
    for tick in range(12):
        for run in (first, second):
            pace.note(run, 10, float(tick))
    # 0.1 s a step, two at once.
    assert pace.seconds_left({make_run(2): 100, make_run(3): 100}) == pytest.approx(10)
    assert pace.seconds_left({make_run(2): 100}) == pytest.approx(10)


def test_nothing_is_said_about_the_time_before_it_is_known():
    pace = Pace(lambda run: 16)
    assert pace.seconds_left({make_run(0): 100}) is None
    pace.note(make_run(0), 1, 0.0)
    assert pace.seconds_left({make_run(0): 99}) is None
    pace.note(make_run(0), 1, 1.0)
    assert pace.seconds_left({make_run(0, steps=1000): 998}) is None


def test_time_left_allows_for_likely_runs(clock):
    runs, likely = [make_run(0), make_run(1)], [make_run(2), make_run(3)]
    with Progress(1000) as bar:
        bar.begin(runs)
        assert bar.describe() == "0 of 2 runs, starting."
        bar.advance(runs[0], 0)
        train(bar, runs[0], clock, seconds=10)
        assert bar.describe() == "1 of 2 runs, about 10 s left."
        bar.set_outlook(KNOWN, likely)
        assert bar.describe() == f"1 of 2 runs, about 10 s to 30 s left. {KNOWN}."
        # They have come: no longer likely, but certain.
        bar.begin(runs + likely)
        assert bar.describe() == f"1 of 4 runs, about 30 s left. {KNOWN}."
        bar.finish(runs[1])  # it failed
        assert bar.describe() == f"2 of 4 runs, about 20 s left. {KNOWN}."


def test_time_left_where_the_likely_runs_are_too_many_to_time(clock):
    runs = [make_run(0), make_run(1)]
    with Progress(1000) as bar:
        bar.begin(runs)
        bar.advance(runs[0], 0)
        train(bar, runs[0], clock, seconds=10)
        bar.set_outlook(KNOWN, [make_run(seed) for seed in range(2, 400)])
        assert bar.describe() == f"1 of 2 runs, about 10 s left. {KNOWN}."


def test_a_file_gets_a_line_now_and_then(clock, capsys):
    runs = [make_run(seed) for seed in range(10)]
    with Progress(1000) as bar:
        bar.begin(runs)
        for run in runs:
            train(bar, run, clock, seconds=360, records=100)
        bar.write("a sentence")
    output, errors = capsys.readouterr()
    # In an hour: after 15 s, and again after 30, 60, 120, 240, 480, 600 ...
    assert output == "" and "\r" not in errors and "\x1b" not in errors
    *lines, last = errors.splitlines()
    assert 8 <= len(lines) <= 10 and last == "a sentence"
    assert lines[-1].startswith("9 of 10 runs, about ")


def test_nothing_is_shown_on_request(clock, open_terminal):
    terminal = open_terminal()
    with Progress(1000, show=False) as bar:
        bar.begin([make_run(0)])
        train(bar, make_run(0), clock, seconds=1000)
        bar.write("a sentence")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("width", [80, 120])
def test_bar_fits_the_terminal(clock, open_terminal, width):
    terminal = open_terminal(str(width))
    runs = [make_run(seed) for seed in range(32)]
    with Progress(1000) as bar:
        bar.begin(runs)
        bar.set_stage("base batch size")
        train(bar, runs[0], clock, seconds=100)
        bar.set_outlook(KNOWN, [make_run(100)])
        terminal.truncate(0)
        bar.set_stage("other batch sizes")
        frame = progress_lines(terminal)
    assert len(frame) == 2
    assert all(len(line) <= width for line in frame)
    assert frame[0].startswith("other batch sizes") and "1 of 32 runs, about" in frame[0]
    assert frame[1].rstrip() == KNOWN


def progress_lines(terminal):
    from rich.text import Text

    return Text.from_ansi(terminal.getvalue().replace("\r", "").lstrip("\0")).plain.splitlines()


def test_what_is_printed_meanwhile_stands_above_the_bar(clock, open_terminal):
    terminal = open_terminal()
    with Progress(1000) as bar:
        bar.begin([make_run(0)])
        bar.write("Batch size 8 is inconclusive: 8 seeds now.")
        print("a damaged file", file=sys.stderr)
    text = terminal.getvalue()
    assert "8 seeds now." in text and "a damaged file" in text
    assert text.endswith("\x1b[2K")  # the bar is gone


@pytest.mark.parametrize("no_color", ["", "1"])
def test_outcomes_have_colors_unless_the_user_wants_none(open_terminal, no_color):
    terminal = open_terminal(no_color=no_color)
    with Progress(1000) as bar:
        bar.write("Batch size 8 (4 seeds): valid.")
    assert ("\x1b[1;32mvalid" in terminal.getvalue()) is not bool(no_color)
