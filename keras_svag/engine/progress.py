"""Progress of a study, in gradients of single examples (the unit of its cost)."""

import contextlib
import sys
import threading
import time

from tqdm import tqdm

ESTIMATE_AFTER = 60.0  # seconds


def announce(message):
    """Prints a line to the stream of the progress bar."""
    print(message, file=_STREAM, flush=True)


class _Stream:
    """`sys.stderr`, which may be closed or lose its reader without ending the study."""

    def write(self, text):
        if sys.stderr is not None:  # closed from the start
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(text)

    def flush(self):
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()

    def __getattr__(self, name):
        return getattr(sys.stderr, name)


_STREAM = _Stream()


class _Bar(tqdm):
    """A progress bar without the semaphore of tqdm, which would outlive a killed process."""

    _lock = threading.RLock()


class Progress:
    """Progress bar over runs, with an estimate of the time left after the first minute."""

    def __init__(self, runs, num_train, finished=(), show=True):
        self._per_step = {run.name: run.examples_per_step(num_train) for run in runs}
        total = sum(run.steps * self._per_step[run.name] for run in runs)
        # Smoothing 0: the mean rate over all runs. miniters=1: otherwise tqdm adapts to the large
        # first updates of finished runs and then shows nothing for long.
        self._bar = _Bar(
            total=total,
            unit="gradient",
            unit_scale=True,
            smoothing=0,
            miniters=1,
            disable=not show,
            dynamic_ncols=True,  # the width of the terminal, found by itself for `sys.stderr` only
            file=_STREAM,
        )
        self._finished = frozenset(finished)
        self._show, self._has_estimated = show, False
        self._started = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._bar.close()

    def advance(self, run, steps):
        """Counts steps of a run, newly taken or found in its checkpoint."""
        if not self._show:
            return
        amount = steps * self._per_step[run.name]
        if run.name in self._finished:
            self._bar.initial += amount
        self._bar.update(amount)
        elapsed = time.monotonic() - self._started
        if not self._has_estimated and elapsed >= ESTIMATE_AFTER:
            self._has_estimated = True
            self.write(f"Estimated time left: {describe_seconds(self.remaining(elapsed))}")

    def remaining(self, elapsed):
        """Seconds left at the mean rate so far."""
        bar = self._bar
        return elapsed * (bar.total - bar.n) / max(1, bar.n - bar.initial)

    def write(self, message):
        """Prints a line above the bar."""
        self._bar.write(message, file=_STREAM)


def describe_seconds(seconds):
    """Formats a duration, such as '50 s', '17 min' or '27.8 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
