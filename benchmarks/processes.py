"""Things that are measured in processes of their own."""

import multiprocessing

from benchmarks.timing import timed


class Peer:
    """A side of a comparison in a process of its own, which waits while the other one runs.

    Two frameworks in one process would share its memory allocator and get in the way of each
    other's threads.

    Args:
        build: picklable function that gives a function of a number of rounds.
        *arguments: arguments of `build`.
    """

    def __init__(self, build, *arguments):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, count):
        """Lets it do `count` rounds and returns the two times that they took there."""
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
    """What a picklable function returns when it is called in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)
