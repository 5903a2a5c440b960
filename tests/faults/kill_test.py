"""SIGKILL at random moments: what is resumed ends as if nothing had happened, bit by bit.

The short form is in tests/engine/killed_test.py, beside the study that it is compared with.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tests.trainers.command import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")

# One program and eight runs. Checkpoints come often, so that many moments fall into one.
LONG = {
    "one_thread": True,
    "epochs": 40.0,
    "checkpoint_steps": 10,
    "num_records": 30,
    "sde_validity": {"batch_sizes": [32], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 8.0},
}


def start(workdir, changes, kind="never", number=0):
    command = [sys.executable, "-m", "tests.faults.killed_study", workdir, json.dumps(changes)]
    return subprocess.Popen(
        [*map(str, command), kind, str(number)],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_until(workdir, changes, kind, number):
    """Runs the study until it is killed; returns whether it ended before."""
    process = start(workdir, changes, kind, number)
    if kind == "time":
        for line in process.stdout:
            if line == "training\n":
                time.sleep(number)
                process.kill()
                break
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    assert "Traceback" not in errors, errors
    assert "damaged" not in errors, errors  # nothing half-written is ever found
    return process.returncode == 0


def finish(workdir, changes):
    assert run_until(workdir, changes, "never", 0)


def left_behind(workdir, has_figures=True):
    """Files of a study, without times and what names the folder."""
    left = {}
    for folder in sorted((workdir / "runs").iterdir()):
        left[folder.name, "metrics"] = (folder / "metrics.jsonl").read_bytes()
        with np.load(folder / "checkpoint" / "latest.npz", allow_pickle=False) as file:
            for name in file.files:
                left[folder.name, name] = file[name].tobytes()
        result = json.loads((folder / "result.json").read_text())
        left[folder.name, "result"] = {**result, "seconds": None, "sha256": None}
        left[folder.name, "files"] = sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
    for name in ("verdict.json", "looks.json"):
        left[name] = (workdir / name).read_bytes()
    with open(workdir / "results.csv", newline="") as file:
        left["table"] = [{**row, "seconds": None} for row in csv.DictReader(file)]
    for path in (workdir / "figures").iterdir() if has_figures else ():
        left[path.name] = path.read_bytes()
    return left


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    different = [key for key in expected if got[key] != expected[key]]
    assert different == []


def random_moments(seed, count, longest):
    """Moments of the three kinds, a pure function of the seed."""
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.choice(["time", "time", "write", "rename"])
        yield kind, rng.uniform(0, longest) if kind == "time" else rng.randint(1, 25)


@pytest.mark.slow
def test_two_processes_share_the_runs(tmp_path):
    # Neither knows of the other, and there is no shard: each run is trained once, by either.
    finish(tmp_path / "whole", LONG)
    workdir, notes = tmp_path / "shared", tmp_path / "notes"
    processes = [start(workdir, LONG, "note", notes) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0 and "Traceback" not in errors, errors
    names = notes.read_text().split()
    assert sorted(names) == sorted(path.name for path in (workdir / "runs").iterdir())
    assert_same(left_behind(workdir), left_behind(tmp_path / "whole"))


@pytest.mark.slow
def test_thirty_moments(tmp_path):
    finish(tmp_path / "whole", LONG)
    expected = left_behind(tmp_path / "whole")
    studies, kills, kinds = 0, 0, set()
    killed = tmp_path / "killed0"
    for kind, number in random_moments(seed=0, count=1000, longest=1.0):
        # Every fourth time with two worker processes, which end with the one that started them.
        changes = {**LONG, "num_workers": 2} if kills % 4 == 3 and kind == "time" else LONG
        if run_until(killed, changes, kind, number):
            assert_same(left_behind(killed), expected)
            studies += 1
            killed = tmp_path / f"killed{studies}"
            continue
        kills += 1
        kinds.add(kind)
        if kills == 30:
            break
    finish(killed, LONG)
    assert_same(left_behind(killed), expected)
    assert kinds == {"time", "write", "rename"}
    print(f"{kills} kills over {studies + 1} studies")
