"""Trainers in forks of a process that has imported everything: seconds less for each command.

What happens before and during imports is left out, so tests of that start a process of their own.
"""

import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import threading
import traceback

MODULES = ("keras_svag.studies", "keras_svag.report", "keras_svag.engine", "trainers.flags")


class WarmProcess:
    """Runs modules one after the other, each in a fork with its own arguments and streams."""

    def __init__(self, environment):
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, module, arguments, cwd, stdout, stderr):
        """Runs a module as `python -m` does; returns the exit code."""
        request = [module, list(arguments), str(cwd), str(stdout), str(stderr)]
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


def serve():
    """Forks for each request on stdin, and answers with the exit code."""
    for module in MODULES:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _run(*json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def _run(module, arguments, cwd, stdout, stderr):
    for number, path in enumerate((os.devnull, stdout, stderr)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(cwd)
    sys.path[0] = cwd
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int):
            print(code or "", end="", file=sys.stderr)
            code = int(bool(code))
    except BaseException:
        traceback.print_exc()
        code = 1
    # As the interpreter ends.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
