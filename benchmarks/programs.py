"""Whole programs, timed in new processes: studies, imports, the first step."""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks.timing import Figure

ROOT = pathlib.Path(__file__).resolve().parents[1]

FIRST_STEP = """
from benchmarks.sides import networks
model = networks.{kind}("{name}")
x, y = networks.examples("{name}", {count})
model.fit(x, y, batch_size={count}, verbose=0)
"""


def run_python(*arguments, **environment):
    """Runs Python with arguments in the checkout; raises if it fails."""
    subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def seconds_of(*arguments):
    """Returns the seconds of a Python process with arguments."""
    start = time.perf_counter()
    run_python(*arguments)
    return time.perf_counter() - start


def first_step(kind, name, count):
    """Returns a program that takes one step of `count` examples in `fit`."""
    return FIRST_STEP.format(kind=kind, name=name, count=count)


def study(plan):
    """e: whole studies with two worker processes against one process, and their runs alone."""
    # With four times the seeds start and report weigh less.
    if plan.quick:
        return _study(plan, "configs/digits.py:quick", 1)
    return [
        *_study(plan, "configs/digits.py", 4),
        *_study(plan, "configs/digits.py", 16),
    ]


def _study(plan, config, seeds):
    def seconds(workers):
        with tempfile.TemporaryDirectory() as folder:
            whole = seconds_of(
                "-m",
                "trainers.sde_validity",
                f"--config={config}",
                f"--config.num_workers={workers}",
                f"--config.num_seeds={seeds}",
                f"--config.max_num_seeds={seeds}",
                f"--workdir={folder}",
            )
            # Written just after the last run and just before the first one.
            files = (pathlib.Path(folder) / f"{name}.json" for name in ("verdict", "environment"))
            end, start = (file.stat().st_mtime for file in files)
            return whole, end - start

    times = np.array([[seconds(1), seconds(2)] for _ in range(plan.few)])
    return [
        Figure(
            "e",
            f"sde_validity, {config}, {seeds} seeds, {part}",
            "one by one",
            "2 at once",
            (times[:, 0, i] / times[:, 1, i]).tolist(),
            *times[:, :, i].T.tolist(),
            "s",
            ">= 1.7",
        )
        for i, part in enumerate(["from start to report", "its runs alone"])
    ]


def start_up(plan):
    """g: import time and time to the first step, of whole processes."""
    repeats = 1 if plan.quick else plan.few + 2
    programs = {
        "import": ("import keras_svag", "keras_svag", "import keras", "keras"),
        "first step of fit, mlp B=8": (
            first_step("svag", "mlp", 16),
            "SVAG",
            first_step("plain", "mlp", 8),
            "plain",
        ),
    }
    figures = []
    for title, (first, name, second, other) in programs.items():
        times = [[seconds_of("-c", program) for program in (first, second)] for _ in range(repeats)]
        a, b = np.array(times).T
        figures.append(
            Figure("g", title, name, other, (a / b).tolist(), a.tolist(), b.tolist(), "s")
        )
    return figures
