"""Runs a trainer as a user does."""

import json
import os
import pathlib
import subprocess
import sys

import keras

ROOT = pathlib.Path(__file__).resolve().parents[2]


def trainer(*arguments, name="sde_validity", cwd=ROOT, **environment):
    """`python -m trainers.<name>` with arguments; returns the finished process."""
    variables = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", f"trainers.{name}", *map(str, arguments)],
        cwd=cwd,
        env={**variables, **environment},
        capture_output=True,
        text=True,
    )


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
