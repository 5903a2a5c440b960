"""Time that steps take, learned for each compiled program while runs report them."""

import collections

# Time of a step besides its examples, in examples; until a program has been timed.
STEP_OVERHEAD = 64
# Part of all steps without which nothing is said about the rest.
MIN_TIMED = 0.01


class Pace:
    """Seconds per step of each program, and how many runs go on at once.

    `cost(run)` is the number of examples of a step of a run.
    """

    def __init__(self, cost):
        self._cost = cost
        self._started = self._now = None
        self._last, self._reports = {}, collections.Counter()
        self._seconds, self._steps = collections.Counter(), collections.Counter()
        self._examples = {}

    @property
    def has_begun(self):
        """Returns True if a run has reported anything."""
        return bool(self._last)

    def note(self, run, steps, now):
        """Counts steps that a run reports."""
        last = self._last.get(run.name)
        self._last[run.name] = self._now = now
        self._reports[run.name] += 1
        # The first report is of restored steps; until the second, a program may have compiled.
        if last is not None and self._reports[run.name] > 2 and steps > 0:
            self._started = last if self._started is None else self._started
            self._seconds[run.program] += now - last
            self._steps[run.program] += steps
            self._examples[run.program] = self._cost(run)

    def seconds_left(self, steps_left):
        """Seconds that runs need, a dict from run to steps; `None` if nothing was timed."""
        wall = self._now - self._started if self._started is not None else 0.0
        busy = sum(self._seconds.values())
        timed, left = sum(self._steps.values()), sum(steps_left.values())
        if not wall or not busy or timed < MIN_TIMED * (timed + left):
            return None
        times = [steps * self.step_time(run) for run, steps in steps_left.items()]
        return max(sum(times) / max(1.0, busy / wall), *times, 0.0)

    def step_time(self, run):
        """Seconds of a step, of other programs by their examples; examples if none was timed."""
        if self._seconds[run.program] and self._steps[run.program]:
            return self._seconds[run.program] / self._steps[run.program]
        timed = [program for program in self._steps if self._steps[program]]
        units = sum(self._steps[p] * (STEP_OVERHEAD + self._examples[p]) for p in timed)
        per_unit = sum(self._seconds.values()) / units if units else 1.0
        return per_unit * (STEP_OVERHEAD + self._cost(run))
