"""Ratios of alternating measurements, so that other load on the machine affects both sides."""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str
    # Runs a number of rounds; returns their seconds, and those of processor time of all threads.
    run: Callable[[int], tuple[float, float]]
    steps: int = 1  # in one round; times are reported per step


@dataclasses.dataclass(frozen=True)
class Figure:
    """The ratio of two sides, one value per repeat."""

    letter: str
    name: str
    numerator: str  # name of that side
    denominator: str
    ratios: list
    numerators: list
    denominators: list
    unit: str = "us"  # or "s", "MB"
    target: str = ""  # such as "<= 1.0"
    # Of processor time, which other programs on the machine do not change.
    cpu_ratios: list | None = None

    @property
    def quartiles(self):
        """Returns lower quartile, median and upper quartile of the ratios."""
        return tuple(float(q) for q in np.percentile(self.ratios, [25, 50, 75]))

    @property
    def cpu_median(self):
        """Returns the median ratio of processor time, or `None`."""
        return None if self.cpu_ratios is None else float(np.median(self.cpu_ratios))

    def as_dict(self):
        """Returns all measurements and the quartiles, for JSON."""
        lower, median, upper = self.quartiles
        return {
            **dataclasses.asdict(self),
            "median": median,
            "quartiles": [lower, upper],
            "cpu_median": self.cpu_median,
            "repeats": len(self.ratios),
        }


def timed(function):
    """Returns a `Side.run` that calls `function(count)`."""

    def run(count):
        start, cpu_start = time.perf_counter(), time.process_time()
        function(count)
        return time.perf_counter() - start, time.process_time() - cpu_start

    return run


def fit_side(name, model, data, batch_size, callbacks=None):
    """Returns a `Side` whose rounds are epochs of `fit`."""

    def run(count):
        model.fit(*data, batch_size=batch_size, epochs=count, verbose=0, callbacks=callbacks)

    return Side(name, timed(run), len(data[0]) // batch_size)


def alternate(sides, repeats, seconds):
    """Times sides alternately: seconds and processor seconds per step, `(2, sides, repeats)`."""
    # Each side runs once to warm up and once to find the rounds that take `seconds`. The order is
    # reversed at each repeat, so that neither side always comes second.
    counts = []
    for side in sides:
        side.run(1)
        counts.append(max(1, math.ceil(seconds / max(side.run(1)[0], 1e-9))))
    # Start-up may dominate a single round: adjust once more, at the count found.
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
    """Times two sides; one step of the first counts against `per` of the second."""
    times = alternate([first, second], plan.repeats, plan.seconds) * 1e6
    times[:, 1] *= per
    below = f"{per} x {second.name}" if per != 1 else second.name
    return figure_of(letter, name, (first.name, below), times, target)


def figure_of(letter, name, sides, times, target=""):
    """Returns the `Figure` of two sides from the result of `alternate`, in microseconds."""
    (a, b), (cpu_a, cpu_b) = times.tolist()
    ratios, cpu_ratios = (times[:, 0] / times[:, 1]).tolist()
    return Figure(letter, name, *sides, ratios, a, b, "us", target, cpu_ratios)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The extent of the measurements."""

    quick: bool  # a test that everything runs
    repeats: int  # of each side
    seconds: float  # of one measurement

    @property
    def few(self):
        """Returns the number of repeats of measurements that take minutes."""
        return max(1, self.repeats // 4)


QUICK = Plan(quick=True, repeats=3, seconds=0.02)
FULL = Plan(quick=False, repeats=11, seconds=0.4)
