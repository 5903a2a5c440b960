"""Ratios of two things timed in turns, so that what else the machine does falls on both."""

import dataclasses
import math
import time

import numpy as np


@dataclasses.dataclass(frozen=True)
class Side:
    """One of two things that are compared.

    Args:
        name: what it is.
        run: function of a number of rounds that does them and returns a tuple: the seconds they
            took, and the seconds of processor time (of all threads) that the process used.
        steps: training steps in one round; times are reported for one step.
    """

    name: str
    run: object
    steps: int = 1


@dataclasses.dataclass(frozen=True)
class Figure:
    """A ratio of two sides: median and quartiles over repeats.

    Args:
        letter: the benchmark it belongs to.
        name: what is compared, and on what.
        numerator: name of the side above.
        denominator: name of the side below.
        ratios: list of floats, one a repeat.
        numerators: what was measured of the numerator, one a repeat.
        denominators: the same of the denominator.
        unit: unit of these: "us", "s" or "MB".
        target: what the ratio should be, such as "<= 1.0"; `""` if nothing is asked for.
        cpu_ratios: ratios of processor time, which other programs on the machine do not lengthen,
            or `None` where it was not measured.
    """

    letter: str
    name: str
    numerator: str
    denominator: str
    ratios: list
    numerators: list
    denominators: list
    unit: str = "us"
    target: str = ""
    cpu_ratios: list | None = None

    @property
    def quartiles(self):
        """Lower quartile, median and upper quartile of the ratios."""
        return tuple(float(q) for q in np.percentile(self.ratios, [25, 50, 75]))

    @property
    def cpu_median(self):
        """Median ratio of processor time, or `None`."""
        return None if self.cpu_ratios is None else float(np.median(self.cpu_ratios))

    def as_dict(self):
        """For JSON: all that was measured, and the quartiles."""
        lower, median, upper = self.quartiles
        return {
            **dataclasses.asdict(self),
            "median": median,
            "quartiles": [lower, upper],
            "cpu_median": self.cpu_median,
            "repeats": len(self.ratios),
        }


def timed(function):
    """A `run` of a `Side` that calls `function(count)`."""

    def run(count):
        start, cpu_start = time.perf_counter(), time.process_time()
        function(count)
        return time.perf_counter() - start, time.process_time() - cpu_start

    return run


def alternate(sides, repeats, seconds):
    """Times things in turns.

    Every side is run once to warm up, then once to find how many rounds take `seconds`. The order
    is turned round at each repeat, so that neither side always comes after the other.

    Args:
        sides: list of `Side`.
        repeats: how often each is timed.
        seconds: about how long one measurement takes; at least one round.

    Returns:
        An array of shape `(2, sides, repeats)`: seconds for one step, and processor time.
    """
    counts = []
    for side in sides:
        side.run(1)
        counts.append(max(1, math.ceil(seconds / max(side.run(1)[0], 1e-9))))
    # A single round may cost more to start than to do: once more, with the count that it gave.
    counts = [
        max(1, math.ceil(count * min(1.0, seconds / max(side.run(count)[0], 1e-9))))
        for side, count in zip(sides, counts)
    ]
    times = np.empty((2, len(sides), repeats))
    for repeat in range(repeats):
        order = range(len(sides)) if repeat % 2 == 0 else reversed(range(len(sides)))
        for i in order:
            seconds_taken = np.array(sides[i].run(counts[i]))
            times[:, i, repeat] = seconds_taken / (counts[i] * sides[i].steps)
    return times


def compare(letter, name, first, second, plan, per=1, target=""):
    """Times two sides in turns.

    Args:
        letter: the benchmark.
        name: what is compared.
        first: `Side` in the numerator.
        second: `Side` in the denominator.
        plan: a `Plan`.
        per: steps of the second side that stand against one of the first. Defaults to `1`.
        target: what the ratio should be.

    Returns:
        A `Figure`, times in microseconds.
    """
    times = alternate([first, second], plan.repeats, plan.seconds) * 1e6
    times[:, 1] *= per
    below = f"{per} x {second.name}" if per != 1 else second.name
    return figure_of(letter, name, (first.name, below), times, target)


def figure_of(letter, name, sides, times, target=""):
    """A `Figure` from what `alternate` gave for two sides, in microseconds.

    Args:
        letter: the benchmark.
        name: what is compared.
        sides: tuple of the names of the two sides.
        times: array of shape `(2, 2, repeats)`.
        target: what the ratio should be.

    Returns:
        A `Figure`.
    """
    (a, b), (cpu_a, cpu_b) = times.tolist()
    ratios, cpu_ratios = (times[:, 0] / times[:, 1]).tolist()
    return Figure(letter, name, *sides, ratios, a, b, "us", target, cpu_ratios)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How thoroughly to measure.

    Args:
        quick: whether only to see that everything runs.
        repeats: how often each side is timed.
        seconds: about how long one measurement takes.
    """

    quick: bool
    repeats: int
    seconds: float

    @property
    def few(self):
        """How often to repeat what takes minutes."""
        return max(1, self.repeats // 4)


QUICK = Plan(quick=True, repeats=3, seconds=0.02)
FULL = Plan(quick=False, repeats=11, seconds=0.4)
