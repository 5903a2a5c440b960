"""Signals to a trainer: checkpoints, a code of its own, and nothing lost."""

import os
import signal
import subprocess
import sys
import time

import keras
import pytest

from keras_svag.engine.files import lock
from tests.faults.kill_test import assert_same, left_behind
from tests.faults.processes import session_of, wait_until_none_is_left
from tests.trainers.command import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX"),
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a study leaves that nobody disturbs."""
    workdir = tmp_path_factory.mktemp("whole")
    finish(workdir)
    return left_behind(workdir)


def finish(workdir):
    process = start(workdir)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert wait_until_none_is_left(process.pid) == []


def wait_for_checkpoints(workdir, count):
    wait_for(lambda: len(list(workdir.glob("runs/*/checkpoint/latest.npz"))) >= count)


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)],
    ids=["SIGTERM", "SIGHUP", "SIGINT"],
)
def test_e7_e8_workers_write_checkpoints(whole, tmp_path, signum, code):
    codes = []
    # Of eight runs. Schedulers and terminals send it to one process or to all of them.
    for wanted, send in ((2, os.kill), (4, os.killpg)):
        process = start(tmp_path)
        wait_for_checkpoints(tmp_path, wanted)
        # Ten times; but a second Ctrl-C ends at once.
        for _ in range(1 if signum == signal.SIGINT else 10):
            send(process.pid, signum)
            time.sleep(0.02)
        sent = time.monotonic()
        output, errors = process.communicate()
        codes.append(process.returncode)
        assert wait_until_none_is_left(process.pid) == []
        if process.returncode == 0:  # it was faster
            break
        assert process.returncode == code, errors
        assert time.monotonic() - sent < 60
        assert errors.count(f"({signum.name})") == 1
        assert "Traceback" not in errors and not (tmp_path / "verdict.json").exists()
        # Nobody is left: no lock is held, no file is being written.
        for path in tmp_path.rglob("*"):
            assert ".tmp." not in path.name
            if path.name == "lock":
                with lock.acquire(path) as free:
                    assert free
    assert codes[0] == code
    finish(tmp_path)
    assert_same(left_behind(tmp_path), whole)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["kill", "killpg"])
def test_e8_second_ctrl_c(whole, tmp_path, send):
    process = start(tmp_path)
    wait_for_checkpoints(tmp_path, 2)
    send(process.pid, signal.SIGINT)
    time.sleep(0.05)
    send(process.pid, signal.SIGINT)
    sent = time.monotonic()
    _, errors = process.communicate()
    assert process.returncode == 130 and time.monotonic() - sent < 10
    assert "Traceback" not in errors and errors.count("(SIGINT)") == 1
    assert wait_until_none_is_left(process.pid) == []
    finish(tmp_path)
    assert_same(left_behind(tmp_path), whole)


@pytest.mark.skipif(sys.platform != "linux", reason="there is a fork server on Linux alone")
def test_e10_killed_fork_server_and_workers(whole, tmp_path):
    process = start(tmp_path)
    # While it imports, and while its workers train.
    wait_for(lambda: session_of(process.pid)["server"])
    os.kill(session_of(process.pid)["server"][0], signal.SIGKILL)
    wait_for_checkpoints(tmp_path, 1)
    for role in ("server", "worker"):
        if found := session_of(process.pid)[role]:
            os.kill(found[0], signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert wait_until_none_is_left(process.pid) == []
    assert_same(left_behind(tmp_path), whole)
