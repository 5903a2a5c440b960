"""A worker process, as seen by the study's process."""

import concurrent.futures
import concurrent.futures.process

from keras_svag.engine.processes import worker

POLL_SECONDS = 0.2


class WorkerProcess:
    """One worker process, restarted if it dies.

    `start` launches it and returns its executor, and the connection that its step counts come on.
    """

    def __init__(self, start):
        self._start = start
        self._executor, self._steps = start()
        self._run = self.future = None
        self.programs = set()  # compiled, or being compiled

    @property
    def is_idle(self):
        """True if it can be given a run."""
        return self.future is None

    @property
    def is_done(self):
        """True if there is a result to collect."""
        return self.future is not None and self.future.done()

    def submit(self, run):
        """Submits a run."""
        try:
            future = self._executor.submit(worker.execute, run)
        except concurrent.futures.process.BrokenProcessPool:  # died while idle
            self._restart()
            future = self._executor.submit(worker.execute, run)
        self.programs.add(run.program)
        self._run, self.future = run, future

    def call(self, function):
        """Submits a function without arguments; returns a future."""
        return self._executor.submit(function)

    def report(self, on_steps):
        """Forwards the step counts that have arrived."""
        while self.future is not None and self._steps.poll():
            on_steps(self._run, self._steps.recv())

    def collect(self):
        """Returns its run and the result, or `None` as the result if the process died."""
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
            # Keep reading: a worker blocks once its pipe is full.
            concurrent.futures.wait([self.future], timeout=POLL_SECONDS)
            self.report(lambda run, steps: None)
        self._executor.shutdown(cancel_futures=True)
        self._steps.close()
