"""Folders without locks, versions that change, and what killed processes leave."""

import os
import subprocess
import sys

import pytest

from keras_svag.engine import execution
from keras_svag.engine.files import lock, records, storage
from keras_svag.engine.state import RunFolder, RunState
from keras_svag.studies import load
from keras_svag.studies.base.workdir import prepare_workdir
from tests.faults.quick_study import NumpyProgram, make_study, patch_studies, run
from tests.studies.helpers import files_of

RUN = "b8_ell2_seed1"


@pytest.fixture
def study(monkeypatch):
    patch_studies(monkeypatch)
    return make_study()


def test_e4_rows_never_become_fewer_once_a_result_stands(study, tmp_path, monkeypatch):
    # A process in the middle of a run, which another one without locks finishes meanwhile.
    expected = run(study, tmp_path / "whole")
    environment = prepare_workdir(tmp_path / "shared", study)
    folder = RunFolder(tmp_path / "shared", RUN)
    records.make_folder(folder.path, parents=True)
    record, seen = RunState.record, []

    def finish_elsewhere(state, *arguments, **options):
        monkeypatch.setattr(RunState, "record", record)
        run(study, tmp_path / "shared")
        seen.append(folder.metrics.read_bytes())
        monkeypatch.setattr(RunState, "record", look)
        look(state, *arguments, **options)

    def look(state, *arguments, **options):
        record(state, *arguments, **options)
        seen.append(folder.metrics.read_bytes())

    monkeypatch.setattr(RunState, "record", finish_elsewhere)
    recording = study.recording.__class__(
        num_records=3, num_checkpoints=2, identity=environment["identity"]
    )
    [spec] = [spec for spec in study.specs(study.first_plan()) if spec.name == RUN]
    program = NumpyProgram(study.recipe)
    state = RunState(spec, program, recording, folder, lambda steps: None)
    state.resume()
    state.begin()
    while not state.is_done:
        state.record(*program.advance(*state.draw(), reset_metrics=state.starts_record))
    result = execution.finish(state, 1.0)
    assert len(seen) > 3 and set(seen) == {expected[f"runs/{RUN}/metrics.jsonl"]}
    assert result == records.read_sealed(folder.result)
    assert load(tmp_path / "shared").verdict == load(tmp_path / "whole").verdict


def change_versions(workdir, names):
    for name in names:
        path = workdir / "runs" / name / "result.json"
        result = records.read_sealed(path)
        result["versions"]["keras"] = "3.14.0"
        records.write_sealed(path, result)


def test_e5_other_versions_are_said_in_report_and_verdict(study, tmp_path):
    run(study, tmp_path)
    assert "mixed_versions" not in records.read_json(tmp_path / "verdict.json")
    now = records.read_sealed(tmp_path / "runs" / RUN / "result.json")["versions"]["keras"]
    change_versions(tmp_path, [RUN])
    expected = {"keras": {"3.14.0": 1, now: 3}}
    assert load(tmp_path).details["mixed_versions"] == expected
    run(study, tmp_path)
    assert records.read_json(tmp_path / "verdict.json")["mixed_versions"] == expected
    report = " ".join((tmp_path / "report.html").read_text().split())
    assert f"different versions: keras 3.14.0 (1 run), {now} (3 runs)." in report


def test_e5_a_run_that_goes_on_under_another_version_has_both(study, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    record = RunState.record

    def stop(state, *arguments, **options):
        record(state, *arguments, **options)
        state.versions = {**state.versions, "keras": "3.14.0"}
        if state.folder.checkpoint.exists():
            raise Stop

    monkeypatch.setattr(RunState, "record", stop)
    with pytest.raises(Stop):
        run(study, tmp_path)
    monkeypatch.setattr(RunState, "record", record)
    run(study, tmp_path)
    versions = {
        path.parent.name: records.read_sealed(path)["versions"]["keras"]
        for path in (tmp_path / "runs").glob("*/result.json")
    }
    now = versions[RUN]
    assert versions.pop("b8_ell1_seed0") == f"3.14.0, {now}" and set(versions.values()) == {now}
    found = records.read_json(tmp_path / "verdict.json")["mixed_versions"]
    assert found == {"keras": {f"3.14.0, {now}": 1, now: 3}}


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_e9_what_kills_leave_is_removed_by_the_next_call(study, tmp_path):
    expected = run(study, tmp_path)
    names = ("verdict.json", "figures/curves.png", "tensorboard/events", f"runs/{RUN}/result.json")
    for name in names:
        left = tmp_path / os.path.dirname(name) / f".{storage._machine()}.{dead_pid()}.ab.tmp.x"
        left.parent.mkdir(exist_ok=True)
        left.write_text("half")
    own = tmp_path / f".{storage._machine()}.{os.getpid()}.ab.tmp.verdict.json"
    own.write_text("half")
    (tmp_path / "runs" / RUN / "lock").touch()
    # The lock of a process that is alive stays.
    held = tmp_path / "runs" / "b8_ell1_seed0" / "lock"
    with lock.acquire(held):
        left = run(study, tmp_path)
        assert left.keys() == expected.keys() | {own.name, "runs/b8_ell1_seed0/lock"}
    own.unlink()
    assert run(study, tmp_path) == files_of(tmp_path, ".lock") == expected


def test_e9_kill_between_result_and_end_leaves_no_older_checkpoint(study, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(execution, "release", kill)
        with pytest.raises(Killed):
            run(study, tmp_path)
    left = files_of(tmp_path / "runs" / "b8_ell1_seed0")
    assert "result.json" in left and "checkpoint/previous.npz" not in left and "lock" in left
    run(study, tmp_path)
    assert "lock" not in files_of(tmp_path / "runs" / "b8_ell1_seed0")
