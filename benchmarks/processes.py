"""Measurements in separate processes."""

import concurrent.futures
import multiprocessing

from benchmarks.timing import timed


class Peer:
    """A side of a comparison in a separate process, which waits while the other side runs.

    Two frameworks in one process would share its allocator and compete for threads. `build` is a
    picklable function that returns a function of a number of rounds.
    """

    def __init__(self, build, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, count):
        """Runs `count` rounds; returns their wall time and processor time."""
        self._pipe.send(count)
        return self._pipe.recv()

    def stop(self):
        """Ends the process."""
        self._pipe.close()
        self._process.join()


def _serve(pipe, build, arguments):
    run = timed(build(*arguments))
    while True:
        try:
            count = pipe.recv()
        except EOFError:
            return
        pipe.send(run(count))


def in_fresh_process(function, *arguments):
    """Calls a picklable function in a new process."""
    # Unlike a `multiprocessing.Pool` it does not wait forever for a process that was killed.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()
