"""Runs that are interrupted, killed or preempted end as if nothing had happened, bit by bit."""

import dataclasses
import itertools
import os
import shutil
import signal

import numpy as np
import pytest

from keras_svag.engine import execution
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption
from keras_svag.engine.processes.pool import execute_serially
from keras_svag.engine.state import RunFolder
from tests.engine.conftest import RUN, forget_request
from tests.engine.helpers import (
    Interrupted,
    assert_same_end,
    execute,
    interrupt_after,
    refuse_program,
    saved_step,
)
from tests.studies.helpers import files_of


@pytest.mark.parametrize("recorded", [0, 1, 2, 3, 5, 8, 9])
def test_interrupted_run_ends_the_same(program, recording, uninterrupted, tmp_path, recorded):
    folder = RunFolder(tmp_path, RUN.name)
    with pytest.raises(Interrupted):
        execute(RUN, program, recording, tmp_path, on_steps=interrupt_after(recorded))
    # The checkpoint of record 3 is written after its progress is told: 0, 3, 6 or 9 rows stand.
    kept = max(0, (recorded - 1) // 3 * 3)
    assert len(records.read_jsonl(folder.metrics)) == kept
    assert not folder.result.exists()
    program.start(1.0, seed=7)  # other runs come between
    program.advance(np.zeros((3, 256), np.int32))
    reported = []
    execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert reported[0] == round(2 * RUN.record_points(10)[kept - 1] if kept else 0)
    assert sum(reported) == RUN.steps
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_interrupted_twice(program, recording, uninterrupted, tmp_path):
    for recorded in (5, 3):
        with pytest.raises(Interrupted):
            execute(RUN, program, recording, tmp_path, on_steps=interrupt_after(recorded))
    execute(RUN, program, recording, tmp_path)
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_killed_between_records_and_checkpoint(
    program, recording, uninterrupted, tmp_path, monkeypatch
):
    # The rows of record 4 to 6 are written, their checkpoint is not; a temporary file stays.
    savez, count = np.savez, itertools.count(1)

    def fail_second(*arguments, **arrays):
        if next(count) == 2:
            raise Interrupted
        savez(*arguments, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fail_second)
        with pytest.raises(Interrupted):
            execute(RUN, program, recording, tmp_path)
    folder = RunFolder(tmp_path, RUN.name)
    old = folder.checkpoints / ".1234abcd.1.ab.tmp.latest.npz"
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert len(records.read_jsonl(folder.metrics)) == 6
    assert saved_step(tmp_path, RUN) == 14  # that of record 3
    execute(RUN, program, recording, tmp_path)
    assert_same_end(tmp_path, uninterrupted, RUN)
    # The temporary file too is gone.
    assert set(files_of(folder.path)) == set(files_of(RunFolder(uninterrupted, RUN.name).path))


def test_killed_between_last_checkpoint_and_result(program, recording, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    RunFolder(tmp_path, RUN.name).result.unlink()
    reported = []
    execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert reported == [RUN.steps]
    assert_same_end(tmp_path, uninterrupted, RUN)


@pytest.mark.parametrize("every", [1, 3, 5, 100])
def test_cadence_in_effective_steps_changes_nothing_but_the_checkpoints(
    program, recording, uninterrupted, tmp_path, every
):
    # Between records too (which end at 2, 4, 7, 9 ...): their means go on over the cut.
    often = dataclasses.replace(recording, checkpoint_steps=every)
    steps = set()
    execute(RUN, program, often, tmp_path, on_steps=lambda _: steps.add(saved_step(tmp_path, RUN)))
    assert sorted(steps - {None}) == [2 * effective for effective in range(every, 22, every)]
    assert saved_step(tmp_path, RUN) == 44
    assert_same_end(tmp_path, uninterrupted, RUN)


@pytest.mark.parametrize("at", [1, 2, 4, 7, 12])
def test_goes_on_from_between_two_records(program, recording, uninterrupted, tmp_path, at):
    # A checkpoint after every effective step; most lie between two records.
    recording = dataclasses.replace(recording, checkpoint_steps=1)
    with pytest.raises(Interrupted):
        execute(RUN, program, recording, tmp_path, on_steps=interrupt_after(at))
    program.start(1.0, seed=7)  # other runs come between, with other metrics
    program.advance(np.zeros((3, 256), np.int32))
    reported = []
    execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert reported[0] == 2 * (at - 1) and sum(reported) == RUN.steps
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_long_records_are_taken_in_pieces(program, recording, uninterrupted, tmp_path, monkeypatch):
    # What is drawn at once does not grow with ell, nor the time until a run can be interrupted.
    monkeypatch.setattr(type(program), "steps_per_segment", 3)
    steps = []
    execute(RUN, program, recording, tmp_path, on_steps=steps.append)
    assert max(steps) == 3 and sum(steps) == RUN.steps
    assert_same_end(tmp_path, uninterrupted, RUN)


def preempt_after(count):
    """An `on_steps` that sends SIGTERM to this process at its call number `count`."""
    calls = iter(range(1000))
    return lambda _: os.kill(os.getpid(), signal.SIGTERM) if next(calls) == count else None


@pytest.mark.parametrize("at", [0, 4, 9, 13])
def test_sigterm_writes_a_checkpoint_and_loses_nothing(
    program, recording, uninterrupted, tmp_path, monkeypatch, watched, at
):
    # In pieces of three steps, so that most of them end between two records.
    monkeypatch.setattr(type(program), "steps_per_segment", 3)
    steps = []
    preempt = preempt_after(at)
    with pytest.raises(preemption.PreemptedError, match="preempted"):
        execute(RUN, program, recording, tmp_path, on_steps=lambda n: (steps.append(n), preempt(n)))
    folder = RunFolder(tmp_path, RUN.name)
    assert not folder.result.exists()
    # One more piece, and not a step of it is lost.
    assert saved_step(tmp_path, RUN) == sum(steps)
    assert len(steps) == at + 2
    forget_request()
    resumed = []
    execute(RUN, program, recording, tmp_path, on_steps=resumed.append)
    assert resumed[0] == sum(steps)
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_sigterm_in_the_last_piece_leaves_a_finished_run(program, recording, tmp_path, watched):
    result = execute(RUN, program, recording, tmp_path, on_steps=preempt_after(9))
    assert result["status"] == execution.DONE and preemption.requested_signal()
    with pytest.raises(preemption.PreemptedError):
        execute_serially(refuse_program, [RUN], lambda run, steps: None)
