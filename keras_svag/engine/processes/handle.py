"""A worker process as the study's process sees it."""

import concurrent.futures
import concurrent.futures.process

from keras_svag.engine.processes import worker

POLL_SECONDS = 0.2


class WorkerProcess:
    """One worker process as this process sees it.

    Args:
        start: function without arguments that starts an executor of one process, and returns it
            with the connection on which numbers of steps come.
    """

    def __init__(self, start):
        self._start = start
        self._executor, self._steps = start()
        self._run = self.future = None
        self.programs = set()  # what it has compiled, or is compiling

    @property
    def is_idle(self):
        """Whether it can be given a run."""
        return self.future is None

    @property
    def is_done(self):
        """Whether there is a result to collect."""
        return self.future is not None and self.future.done()

    def submit(self, run):
        """Gives it a run."""
        try:
            future = self._executor.submit(worker.execute, run)
        except concurrent.futures.process.BrokenProcessPool:  # it died while it was idle
            self._restart()
            future = self._executor.submit(worker.execute, run)
        self.programs.add(run.program)
        self._run, self.future = run, future

    def call(self, function):
        """Has it call a function without arguments; returns a future."""
        return self._executor.submit(function)

    def report(self, on_steps):
        """Passes on what it has said of its run since the last time."""
        while self.future is not None and self._steps.poll():
            on_steps(self._run, self._steps.recv())

    def collect(self):
        """Its run and the result, or `None` for a result if the process died."""
        run, future, self.future = self._run, self.future, None
        try:
            return run, future.result()
        except concurrent.futures.process.BrokenProcessPool:
            self._restart()
            return run, None

    def _restart(self):
        self.stop()
        (self._executor, self._steps), self.programs = self._start(), set()

    def stop(self):
        """Ends the process, after its run."""
        while self.future is not None and not self.is_done:
            # Read on: a worker cannot go on once the pipe is full.
            concurrent.futures.wait([self.future], timeout=POLL_SECONDS)
            self.report(lambda run, steps: None)
        self._executor.shutdown(cancel_futures=True)
        self._steps.close()
