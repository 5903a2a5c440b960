"""SIGTERM to a trainer: checkpoints, a code of its own, and nothing lost."""

import os
import signal
import subprocess
import sys
import time

import keras
import pytest

from keras_svag.engine.files import lock
from keras_svag.engine.processes import preemption
from tests.faults.kill_test import assert_same, left_behind
from tests.trainers.command import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="SIGTERM is of POSIX"),
]

OPTIONS = [
    "--config=configs/digits.py:quick",
    "--config.epochs=40.0",
    "--config.num_records=30",
    "--config.checkpoint_steps=10",
    "--config.sde_validity.batch_sizes=(32,)",
    "--config.num_workers=2",
]
DEADLINE = 300.0  # seconds, for a machine that is busy


def start(workdir):
    return subprocess.Popen(
        [sys.executable, "-m", "trainers.sde_validity", *OPTIONS, f"--workdir={workdir}"],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_worker_processes_write_checkpoints(tmp_path):
    whole, workdir = tmp_path / "whole", tmp_path / "preempted"
    process = start(whole)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    codes = []
    # Of eight runs. Schedulers send it to one process or to all of them.
    for wanted, send in ((1, os.kill), (3, os.killpg)):
        process = start(workdir)
        # Both workers have been at a run.
        wait_for(lambda n=wanted: len(list(workdir.glob("runs/*/checkpoint/latest.npz"))) > n)
        send(process.pid, signal.SIGTERM)
        sent = time.monotonic()
        output, errors = process.communicate()
        codes.append(process.returncode)
        if process.returncode == 0:  # it was faster
            break
        assert process.returncode == preemption.EXIT_CODE == 75, errors
        assert time.monotonic() - sent < 60
        assert "(SIGTERM)" in errors
        assert "Traceback" not in errors and not (workdir / "verdict.json").exists()
        # Nobody is left: no lock is held, no file is being written.
        for path in workdir.rglob("*"):
            assert ".tmp." not in path.name
            if path.name == "lock":
                with lock.acquire(path) as free:
                    assert free
    assert codes[0] == 75
    process = start(workdir)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_same(left_behind(workdir), left_behind(whole))
