"""Runs a trainer as a user does."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras

from tests.trainers.warm import WarmProcess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def trainer(*arguments, name="sde_validity", cwd=ROOT, is_fresh=False, **environment):
    """`python -m trainers.<name>` with arguments; returns the finished process.

    It is a fork of a process that has imported everything, unless it shall be a fresh one or gets
    variables of its own.
    """
    module, arguments = f"trainers.{name}", [*map(str, arguments)]
    if environment or is_fresh:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=cwd,
            env={**_variables(), **environment},
            capture_output=True,
            text=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        streams = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        code = _warm_process(frozenset(_variables().items())).run(module, arguments, cwd, *streams)
        return subprocess.CompletedProcess(
            [module, *arguments], code, *(stream.read_text("utf-8") for stream in streams)
        )


def _variables():
    variables = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": str(ROOT)}
    variables.pop("PYTEST_CURRENT_TEST", None)  # another one in each test
    return variables


@functools.cache
def _warm_process(variables):
    return WarmProcess(dict(variables))


def load(path):
    """Reads a file that must be strict JSON."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def assert_refused(done, *words):
    """The process ended with an error in words, not with a traceback."""
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "Traceback" not in output, output
    for word in words:
        assert word in output, output
