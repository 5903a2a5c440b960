"""The progress of a study, measured in what costs time: gradients of single examples."""

import time

from tqdm import tqdm

ESTIMATE_AFTER = 60.0  # seconds


class Progress:
    """A progress bar over runs, which tells after a minute how long the rest will take.

    Args:
        runs: list of `Run`.
        num_train: n, number of training examples.
        finished: names of the runs that were finished before; they say nothing about speed.
        show: whether to show anything. Defaults to `True`.
    """

    def __init__(self, runs, num_train, finished=(), show=True):
        self._per_step = {run.name: run.examples_per_step(num_train) for run in runs}
        total = sum(run.steps * self._per_step[run.name] for run in runs)
        # Smoothing 0: the mean rate, not that of the run that reported last. At least 1 at a time:
        # else tqdm waits for as much as finished runs bring at once before it shows anything.
        self._bar = tqdm(
            total=total, unit="gradient", unit_scale=True, smoothing=0, miniters=1, disable=not show
        )
        self._finished = frozenset(finished)
        self._show, self._told = show, False
        self._started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._bar.close()

    def advance(self, run, steps):
        """Tells that steps of a run were taken (or found taken)."""
        if not self._show:
            return
        amount = steps * self._per_step[run.name]
        if run.name in self._finished:
            self._bar.initial += amount
        self._bar.update(amount)
        elapsed = time.monotonic() - self._started
        if not self._told and elapsed >= ESTIMATE_AFTER:
            self._told = True
            self.write(f"Estimate: {describe_seconds(self.remaining(elapsed))} left.")

    def remaining(self, elapsed):
        """Seconds that the rest will take at the rate so far.

        Args:
            elapsed: seconds since the beginning.

        Returns:
            A float.
        """
        bar = self._bar
        return elapsed * (bar.total - bar.n) / max(1, bar.n - bar.initial)

    def write(self, message):
        """Prints a line above the bar."""
        self._bar.write(message)


def describe_seconds(seconds):
    """A length of time in words.

    Args:
        seconds: float.

    Returns:
        A string.

    Example:

    >>> describe_seconds(50), describe_seconds(1000), describe_seconds(100000)
    ('50 s', '17 min', '27.8 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
