"""Times of fresh processes: imports, and the time to the first step."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]

FIRST_STEP = """
from benchmarks import networks
model = networks.{kind}("{name}")
x, y = networks.examples("{name}", {count})
model.fit(x, y, batch_size={count}, verbose=0)
"""


def run_python(*arguments, **environment):
    """Runs this Python with arguments in the checkout; raises if it fails."""
    subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def seconds_of(*arguments):
    """Seconds that this Python takes with arguments, from its start to its end."""
    start = time.perf_counter()
    run_python(*arguments)
    return time.perf_counter() - start


def first_step(kind, name, count):
    """A program that takes one step of `count` examples through `fit`."""
    return FIRST_STEP.format(kind=kind, name=name, count=count)
