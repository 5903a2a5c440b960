"""Many processes on one folder: they share its runs, and take over those of one that is killed."""

import os
import signal
import time

import pytest

from tests.faults.kill_test import LONG, assert_same, finish, left_behind, start
from tests.studies.helpers import build, study_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX"),
]
DEADLINE = 600  # seconds, on a busy machine


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cluster") / "whole"
    finish(workdir, LONG)
    return left_behind(workdir)


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def checkpoints(workdir):
    """Runs with a checkpoint and without a result."""
    paths = workdir.glob("runs/*/checkpoint/latest.npz")
    return [path.parents[1] for path in paths if not (path.parents[1] / "result.json").exists()]


def test_two_of_four_processes_are_killed(tmp_path, expected):
    workdir = tmp_path / "shared"
    notes = [tmp_path / f"notes{i}" for i in range(4)]
    processes = [start(workdir, LONG, "note", path) for path in notes]
    # Two that have trained something and are in the middle of a run.
    killed = []
    for process in (processes[0], processes[2]):
        for line in process.stdout:
            if line == "training\n":
                break
        wait_for(lambda: len(checkpoints(workdir)) > len(killed))
        os.kill(process.pid, signal.SIGKILL)
        killed.append(process)
    for process in processes:
        _, errors = process.communicate(timeout=DEADLINE)
        assert process.returncode == (-signal.SIGKILL if process in killed else 0), errors
        assert "Traceback" not in errors and "damaged" not in errors, errors
    finished = [note.read_text().split() if note.exists() else [] for note in notes]
    # Each run was finished once, and the survivors took over what the others had begun.
    names = sorted(path.name for path in (workdir / "runs").iterdir())
    assert sorted(sum(finished, [])) == names and len(names) == 8
    assert finished[1] and finished[3]
    assert_same(left_behind(workdir), expected)


def test_dask_cluster_of_which_one_worker_is_killed(tmp_path, expected):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    import threading

    workdir, killed = tmp_path / "study", []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1) as cluster:
        with distributed.Client(cluster) as client:

            def kill():
                wait_for(lambda: len(checkpoints(workdir)) >= 2)
                pid = next(iter(client.run(os.getpid).values()))
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

            thread = threading.Thread(target=kill)
            thread.start()
            changes = {name: value for name, value in LONG.items() if name != "one_thread"}
            study = build(study_config(**changes))
            with client.get_executor() as executor:
                result = study.run(
                    workdir, executor=executor, show_progress=False, command=["study"]
                )
            thread.join()
    assert len(killed) == 1 and result.details["failed_runs"] == {}
    assert_same(left_behind(workdir), expected)
    assert not list(workdir.glob(".calls*"))
