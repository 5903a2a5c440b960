"""A worker process, as seen by the study's process."""

import contextlib
import os
import signal

from keras_svag.engine.spec import RunSpec

POLL_SECONDS = 0.2


class WorkerProcess:
    """One worker process, restarted if it dies.

    `start` launches it and returns its `multiprocessing.Process` and this end of its connection.
    """

    def __init__(self, start):
        self._start = start
        self._launch()

    def _launch(self):
        self._process, self.connection = self._start()
        self.task = None  # a run or a function
        self._has_steps = self._is_dead = False
        self.programs = set()  # compiled, or being compiled

    @property
    def is_idle(self):
        """True if it can be given a task."""
        return self.task is None

    def submit(self, task):
        """Submits a run or a function; returns False if the process had died and was replaced."""
        try:
            self.connection.send(task)
        except OSError:
            self._restart()
            return False
        self.task, self._has_steps = task, False
        return True

    def receive(self, on_steps=lambda run, steps: None):
        """Forwards step counts; returns an `Outcome` at the end, raises `EOFError` on death."""
        while self.task is not None and self._poll():
            message = self._receive()
            if not isinstance(message, int):
                self.task = None
                return message
            self._has_steps = True
            on_steps(self.task, message)
        return None

    def _poll(self):
        with contextlib.suppress(OSError):
            return self.connection.poll()
        return True  # on Windows, at the end of the file

    def _receive(self):
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            self._restart()
            raise EOFError from error

    def _restart(self):
        self._is_dead = True
        self.ask_to_stop()
        self.join()
        self._launch()

    def ask_to_stop(self):
        """Makes a run in progress stop after a checkpoint; kills a process with nothing to save."""
        if self.task is None or (isinstance(self.task, RunSpec) and not self._has_steps):
            self.kill()
            return
        with contextlib.suppress(OSError):
            self.connection.send(None)

    def kill(self):
        """Ends the process at once."""
        self._process.kill()
        # Once its fork server was killed, `multiprocessing` takes a process for dead that is not.
        if not self._is_dead and hasattr(signal, "SIGKILL"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)

    def join(self):
        """Waits for the end of the process."""
        # Keep reading: a worker blocks once its pipe is full. The end of the file is the end of
        # the process, even where the fork server that would tell was killed.
        with contextlib.suppress(EOFError, OSError):
            while True:
                self.connection.recv()
        self.connection.close()
        self._process.join()
