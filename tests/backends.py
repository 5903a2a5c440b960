"""Runs code under one of the Keras backends, in a process of its own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_code(code, *arguments, backend, **environment):
    """Runs Python code in the folder of the checkout; fails with what it said if it fails.

    Args:
        code: source text.
        *arguments: what it finds in `sys.argv[1:]`.
        backend: name of the Keras backend.
        **environment: environment variables to set besides.

    Returns:
        What it printed.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": backend, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
