"""SIGKILL at two moments; tests/faults/kill_test.py has thirty, at random."""

import os

import pytest

from tests.faults.kill_test import LONG, assert_same, left_behind, run_until, start
from tests.studies.helpers import run_study, study_config

# Nothing but the checkpoints depends on it.
OFTEN = {"checkpoint_steps": 2}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")


def test_two_moments(finished, tmp_path):
    expected, _ = finished
    # In the middle of a checkpoint of the second run; then as a checkpoint of a later run has gone
    # aside for the next one, which is not in its place yet.
    assert not run_until(tmp_path, OFTEN, "write", 15)
    assert not run_until(tmp_path, OFTEN, "rename", 48)
    names = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert any(".tmp." in name for name in names) and "verdict.json" not in names
    run_study(study_config(**OFTEN), "sde_validity", tmp_path)
    assert_same(left_behind(tmp_path), left_behind(expected))


def test_workers_end_with_the_process_that_started_them(tmp_path):
    # Runs of hours. Workers hold the pipes of what they print, whose end comes when all are gone.
    process = start(tmp_path, {**LONG, "epochs": 1e5, "num_workers": 2}, "time")
    assert "training\n" in process.stdout
    process.kill()
    process.communicate(timeout=60)
