"""Forks of the process of the tests, in which the package can have other code."""

import contextlib
import importlib.abc
import importlib.util
import os
import pathlib
import pickle
import signal
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]


def in_fork(run, timeout=3600.0):
    """Returns what `run()` returns in a fork of this process, whose output is lost."""
    with tempfile.TemporaryDirectory() as folder:
        answer = pathlib.Path(folder, "answer")
        process = os.fork()
        if not process:
            try:
                os.setpgrp()
                os.environ["TMPDIR"] = tempfile.tempdir = folder
                for stream in (1, 2):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
                answer.write_bytes(pickle.dumps((run(), None)))
            except BaseException:  # also pytest's own, and SystemExit
                answer.write_bytes(pickle.dumps((None, traceback.format_exc())))
            finally:
                os._exit(0)
        try:
            wait(process, time.monotonic() + timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process, signal.SIGKILL)
        if not answer.exists():
            raise ChildProcessError("ended by a signal")
        result, error = pickle.loads(answer.read_bytes())
        if error:
            raise ChildProcessError(error)
        return result


def wait(process, end):
    """Waits for the end of a child; a `TimeoutError` if it is too late."""
    pause = 0.002
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        if time.monotonic() > end:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            raise TimeoutError
        time.sleep(pause)
        pause = min(1.5 * pause, 0.2)


def import_anew(file, code):
    """Forgets the package and the tests, of which one file will have other code."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    changed = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    class Loader(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        def find_spec(self, name, path=None, target=None):
            if name != changed:
                return None
            places = [str(file.parent)] if parts[-1] == "__init__" else None
            return importlib.util.spec_from_file_location(
                name, file, loader=self, submodule_search_locations=places
            )

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            exec(code, vars(module))

    sys.meta_path.insert(0, Loader())
    for name in list(sys.modules):
        if name.partition(".")[0] in ("keras_svag", "tests") and "mutation" not in name:
            del sys.modules[name]
