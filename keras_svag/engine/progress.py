"""Progress of a study: one bar over all its runs on a terminal, a line now and then elsewhere."""

import sys
import time

from keras_svag._terminal import SafeStream, color_outcomes, make_console
from keras_svag.engine.pace import Pace

REFRESH_SECONDS = 0.1
# Without a terminal: seconds before the first line, doubled after each line up to the last.
FIRST_LINE_SECONDS, LAST_LINE_SECONDS = 15.0, 600.0
MIN_BAR_WIDTH = 10


class Progress:
    """Runs that are done, what is known so far and the time left.

    Runs are added by `begin`, stage after stage; a study that grows adds more of them.
    """

    def __init__(self, num_train, show=True):
        self.is_shown = show
        self._pace = Pace(lambda run: run.examples_per_step(num_train))
        self._steps_left = {}
        self._stage = self._known = ""
        self._likely = ()
        self._live = None
        self._next_refresh = 0.0
        self._interval, self._next_line = FIRST_LINE_SECONDS, None

    def __enter__(self):
        console = make_console() if self.is_shown else None
        if console is not None:
            from rich.live import Live

            # Without its thread, which a process that is forked meanwhile would not survive.
            self._live = Live(
                console=console,
                get_renderable=self._render,
                auto_refresh=False,
                transient=True,
                redirect_stdout=SafeStream(sys.stdout).isatty(),
            )
            self._live.start()
        self._next_line = time.monotonic() + self._interval
        return self

    def __exit__(self, *error):
        if self._live is not None:
            self._live.stop()
            self._live = None

    def begin(self, runs):
        """Adds runs, of which none, some or all may be known already."""
        for run in runs:
            self._steps_left.setdefault(run, run.steps)
        self._refresh(force=True)

    def set_stage(self, stage):
        """Names what is going on, such as `base batch size`."""
        self._stage = stage
        self._refresh(force=True)

    def set_outlook(self, known, likely=()):
        """Says what is known so far, and which further runs are likely."""
        self._known, self._likely = known, likely
        self._refresh(force=True)

    @property
    def num_runs(self):
        """Number of runs so far."""
        return len(self._steps_left)

    @property
    def num_done(self):
        """Number of runs that have taken all their steps, or ended before."""
        return sum(not steps for steps in self._steps_left.values())

    def finish(self, run):
        """Counts a run as done, also if it failed."""
        self._steps_left[run] = 0

    def advance(self, run, steps):
        """Counts steps of a run, newly taken or restored; returns True with the last of them."""
        now = time.monotonic()
        left = self._steps_left.get(run, run.steps)
        if left:  # else it was done in an earlier stage
            self._pace.note(run, steps, now)
        self._steps_left[run] = max(0, left - steps)
        self._refresh()
        if self.is_shown and self._live is None and self._next_line and now >= self._next_line:
            self._interval = min(2 * self._interval, LAST_LINE_SECONDS)
            self._next_line = now + self._interval
            announce(self.describe())
        return not self._steps_left[run]

    def write(self, message):
        """Prints a line above the bar."""
        if self._live is not None:
            self._live.console.print(color_outcomes(message))
        elif self.is_shown:
            announce(message)

    def describe(self):
        """The progress as text, such as `14 of 32 runs, about 40 s left. B=8 valid so far.`."""
        stage = f"{self._stage}: " if self._stage else ""
        known = f" {self._known}." if self._known else ""
        return f"{stage}{self._describe_runs()}.{known}"

    def _describe_runs(self):
        text = f"{self.num_done} of {self.num_runs} run{'s' * (self.num_runs != 1)}"
        if not self._pace.has_begun:
            return f"{text}, starting"
        left = self._pace.seconds_left(self._steps_left)
        if left is None or not any(self._steps_left.values()):
            return text
        likely = {run: run.steps for run in self._likely if run not in self._steps_left}
        most = self._pace.seconds_left(self._steps_left | likely)
        if most is None:  # too little is timed to say for the likely runs
            most = left
        least, most = describe_seconds(left), describe_seconds(most)
        return f"{text}, about {least if least == most else f'{least} to {most}'} left"

    def _fraction(self):
        times = {run: self._pace.step_time(run) for run in self._steps_left}
        total = sum(times[run] * run.steps for run in times)
        left = sum(times[run] * steps for run, steps in self._steps_left.items())
        return 1 - left / total if total else 0.0

    def _refresh(self, force=False):
        now = time.monotonic()
        if self._live is not None and (force or now >= self._next_refresh):
            self._next_refresh = now + REFRESH_SECONDS
            self._live.refresh()

    def _render(self):
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1), expand=True)
        bar = ProgressBar(total=1.0, completed=self._fraction())
        if self._stage:
            line.add_column(no_wrap=True)
        line.add_column(ratio=1, min_width=MIN_BAR_WIDTH)
        line.add_column(no_wrap=True)
        line.add_row(*filter(None, [self._stage]), bar, self._describe_runs())
        return Group(line, color_outcomes(self._known)) if self._known else line


def announce(message):
    """Prints a line to stderr, where progress is shown."""
    print(message, file=SafeStream(sys.stderr), flush=True)


def describe_seconds(seconds):
    """Formats a duration, such as '50 s', '17 min' or '27.8 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
