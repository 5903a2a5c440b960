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


def trainer(*arguments, name="sde_validity", cwd=ROOT, is_fresh=None, **environment):
    """`python -m trainers.<name>` with arguments; returns the finished process.

    It is a fork of a process that has imported everything, unless `is_fresh`; by default, it is
    fresh if it gets variables of its own, since the other process stays.
    """
    module, arguments = f"trainers.{name}", [*map(str, arguments)]
    variables = {**_variables(), **environment}
    if bool(environment) if is_fresh is None else is_fresh:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=cwd,
            env=variables,
            capture_output=True,
            text=True,
        )
    with tempfile.TemporaryDirectory() as folder:
        streams = [pathlib.Path(folder, name) for name in ("stdout", "stderr")]
        code = _warm_process(frozenset(variables.items())).run(module, arguments, cwd, *streams)
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
