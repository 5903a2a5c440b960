"""Tests of benchmarks/timing.py, with sides of known times."""

import json

import numpy as np
import pytest

from benchmarks.processes import Peer, in_fresh_process
from benchmarks.run import format_table, parse
from benchmarks.timing import Figure, Plan, Side, alternate, compare

PLAN = Plan(quick=True, repeats=4, seconds=1.0)


class Clock:
    """Sides that take known times, and the order in which they ran."""

    def __init__(self):
        self.calls = []

    def side(self, name, seconds, start=0.0, steps=1):
        def run(count):
            self.calls.append((name, count))
            return start + seconds * count, 2 * seconds * count

        return Side(name, run, steps)


def test_seconds_for_one_step_whatever_the_number_of_rounds():
    clock = Clock()
    times = alternate([clock.side("a", 0.5, steps=10), clock.side("b", 3.0)], 4, seconds=1.0)
    np.testing.assert_allclose(times, [[[0.05] * 4, [3.0] * 4], [[0.1] * 4, [6.0] * 4]])
    # Warmed up and tried, then in turns, the order turned round each time.
    assert clock.calls[:2] == [("a", 1), ("a", 1)]
    order = [name for name, _ in clock.calls[-8:]]
    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert {count for name, count in clock.calls[-8:] if name == "a"} == {2}
    assert {count for name, count in clock.calls[-8:] if name == "b"} == {1}


def test_ratio_of_one_to_two_steps():
    clock = Clock()
    figure = compare("a", "x", clock.side("p", 0.3), clock.side("q", 0.1), PLAN, per=2)
    np.testing.assert_allclose(figure.ratios, [1.5] * 4)
    assert figure.cpu_median == pytest.approx(1.5)
    assert figure.denominator == "2 x q"
    np.testing.assert_allclose(figure.denominators, [2e5] * 4)


def test_median_and_quartiles():
    figure = Figure(
        "a", "x", "p", "q", [1.0, 5.0, 2.0, 3.0, 4.0], [1.0] * 5, [1.0] * 5, "s", "<= 1"
    )
    assert figure.quartiles == (2.0, 3.0, 4.0)
    written = json.loads(json.dumps(figure.as_dict()))
    assert written["median"] == 3.0
    assert written["repeats"] == 5
    assert format_table([figure]).splitlines()[-1] == (
        "| a | x | 3 [2, 4] |  | <= 1 | 5 | p 1 s | q 1 s |"
    )


def test_flags():
    assert parse([]).only == list("abcdefghij")
    assert parse(["--only=c,a"]).only == ["c", "a"]
    assert parse(["--quick"]).quick


def test_unknown_letters_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--only=a,x"])
    assert "Received: 'a,x'" in capsys.readouterr().err


def sleeping(seconds):
    """A side that only waits."""
    import time

    return lambda count: time.sleep(seconds * count)


def test_a_side_in_another_process():
    peer = Peer(sleeping, 0.05)
    try:
        wall, cpu = peer.run(2)
        assert cpu < 0.1 <= wall < 1.0  # it sleeps
    finally:
        peer.stop()


def test_fresh_process():
    assert in_fresh_process(len, "four") == 4
