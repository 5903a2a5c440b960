"""Runs whose files are damaged, whose disk is full, or whose loss stops being finite."""

import contextlib
import dataclasses
import json
import math
import shutil

import numpy as np
import pytest

from keras_svag.engine import execution
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.files import checkpoints, lock, records
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import STATE_GROUPS, RunFolder
from tests.engine.conftest import RUN
from tests.engine.helpers import (
    Interrupted,
    assert_same_end,
    execute,
    interrupt_after,
    refuse_program,
    rows_of,
    with_nan,
)
from tests.mlp_oracle import DigitsNet
from tests.studies.helpers import build, files_of, study_config

# Damage.


@contextlib.contextmanager
def file_size_limit(size):
    """No file of this process may grow beyond `size` bytes: the way of a disk that is full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 500, 30_000], ids=["anything", "records", "checkpoints"])
def test_full_disk(program, recording, uninterrupted, tmp_path, size):
    folder = interrupted_with_two_checkpoints(program, recording, tmp_path)
    before, metrics = files_of(folder.checkpoints), folder.metrics.read_bytes()
    with file_size_limit(size):
        with pytest.raises(records.WriteError) as error:
            execute(RUN, program, recording, tmp_path)
    assert f"`{folder.path}" in str(error.value) and "could not be written: " in str(error.value)
    assert "Free some space" in str(error.value) and "resumes from the last" in str(error.value)
    # Both checkpoints are as they were; of the records there may be more.
    assert files_of(folder.checkpoints) == before
    assert folder.metrics.read_bytes().startswith(metrics) and records.read_jsonl(folder.metrics)
    assert not folder.result.exists()
    # When there is space again nothing is lost.
    reported = []
    execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert reported[0] == 26
    assert_same_end(tmp_path, uninterrupted, RUN)


def interrupted_with_two_checkpoints(program, recording, workdir):
    """Interrupts `RUN` after the checkpoints of its records 3 and 6."""
    with pytest.raises(Interrupted):
        execute(RUN, program, recording, workdir, on_steps=interrupt_after(8))
    folder = RunFolder(workdir, RUN.name)
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["latest.npz", "previous.npz"]
    return folder


@pytest.mark.parametrize("damaged", [["latest"], ["latest", "previous"]], ids=str)
def test_damaged_checkpoint_gives_way_to_the_one_before(
    program, recording, uninterrupted, tmp_path, damaged
):
    folder = interrupted_with_two_checkpoints(program, recording, tmp_path)
    for name in damaged:
        path = folder.checkpoints / f"{name}.npz"
        path.write_bytes(path.read_bytes()[:-1000])
    reported = []
    with pytest.warns(UserWarning, match="is damaged .* previous checkpoint") as warned:
        execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert len([w for w in warned if "is damaged" in str(w.message)]) == len(damaged)
    # Record 3 ends at step 14; without a checkpoint the run starts anew.
    assert reported[0] == (14 if damaged == ["latest"] else 0)
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_truncated_records_of_an_interrupted_run(program, recording, uninterrupted, tmp_path):
    folder = interrupted_with_two_checkpoints(program, recording, tmp_path)
    folder.metrics.write_bytes(folder.metrics.read_bytes()[:-7])
    reported = []
    execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert reported[0] == 26  # nothing is trained twice: checkpoints hold the rows too
    assert_same_end(tmp_path, uninterrupted, RUN)


@pytest.mark.parametrize("left", ["cut", "fewer lines", "none"])
def test_truncated_records_of_a_finished_run(program, recording, uninterrupted, tmp_path, left):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    metrics = RunFolder(tmp_path, RUN.name).metrics
    content = metrics.read_bytes()
    lines = b"".join(content.splitlines(keepends=True)[:-1])
    metrics.write_bytes({"cut": content[:-7], "fewer lines": lines, "none": b""}[left])
    with pytest.warns(UserWarning, match="metrics.jsonl` is damaged.*restored"):
        result = execute(RUN, program, recording, tmp_path)
    assert result["status"] == execution.DONE and metrics.read_bytes() == content
    assert_same_end(tmp_path, uninterrupted, RUN)


@pytest.mark.parametrize("change", [{"seed": 2}, {"learning_rate": 3.1}, {"total": 23}], ids=str)
def test_checkpoint_of_another_run_is_refused(program, recording, uninterrupted, tmp_path, change):
    other = dataclasses.replace(RUN, **change)
    shutil.copytree(
        RunFolder(uninterrupted, RUN.name).checkpoints, RunFolder(tmp_path, other.name).checkpoints
    )
    before = files_of(tmp_path)
    (name,) = change
    with pytest.raises(ValueError, match=f"latest.npz` must be one of this run.* {name} "):
        execute(other, program, recording, tmp_path)
    assert files_of(tmp_path, f"runs/{other.name}/lock") == before


def test_checkpoint_of_another_model_is_refused(recording, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    RunFolder(tmp_path, RUN.name).result.unlink()
    before = files_of(tmp_path)
    config = study_config()
    config["model"]["width"] = 2
    wide = CompiledTraining(build(config).recipe, recording, 128)
    with pytest.raises(ValueError) as error:
        execute(RUN, wide, recording, tmp_path)
    message = str(error.value)
    assert "latest.npz` must be one of this run and this model" in message
    assert "array 0 of 'model' float32[64, 64] instead of float32[64, 128]" in message
    assert "Use another --workdir, or move the run's folder away" in message
    assert files_of(tmp_path, f"runs/{RUN.name}/lock") == before


def test_run_that_another_process_is_at_is_left_alone(recording, tmp_path):
    with lock.acquire(RunFolder(tmp_path, RUN.name).lock):
        before = files_of(tmp_path)
        assert execution.execute(RUN, refuse_program, recording, tmp_path) == {
            "status": execution.LOCKED
        }
        assert files_of(tmp_path) == before


# Divergence.


@pytest.fixture(scope="module")
def poisoned(recipe, recording):
    """A program on the digits with one image of nan, and that image's index."""
    # First read by RUN in the middle of the run, between two checkpoints.
    rows = rows_of(RUN, recipe, recording)
    first_step = {int(i): step for step in range(len(rows) - 1, -1, -1) for i in rows[step]}
    index = next(i for i, step in sorted(first_step.items()) if step == 17)
    return CompiledTraining(with_nan(recipe, index), recording, 128), index


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nan_names_its_step_and_keeps_the_last_good_checkpoint(
    poisoned, program, recipe, recording, tmp_path, seed
):
    # The first step that reads the poisoned image, in whichever half, is the one at fault.
    poisoned_program, index = poisoned
    run = dataclasses.replace(RUN, seed=seed)
    expected = int(np.flatnonzero(np.any(rows_of(run, recipe, recording) == index, axis=1))[0])
    assert seed != 1 or expected == 17
    result = execute(run, poisoned_program, recording, tmp_path)
    assert result["status"] == execution.FAILED and result["failed_step"] == expected
    assert f"Run {run.name} diverged" in result["message"]
    assert f"after step {expected}. Lower `learning_rate`" in result["message"]
    folder = RunFolder(tmp_path, run.name)
    assert records.read_sealed(folder.result) == result
    # All records before the step stand, and are finite. Checkpoints follow records 3, 6, 9.
    ends = [run.steps_until(p) for p in run.record_points(10)]
    recorded = sum(end <= expected for end in ends)
    kept = recorded // 3 * 3
    rows = records.read_jsonl(folder.metrics)
    assert len(rows) == recorded and all(math.isfinite(row["loss"]) for row in rows)
    loaded = checkpoints.load(folder.checkpoints, STATE_GROUPS)
    if kept == 0:
        assert loaded is None
        return
    assert len(loaded[1]["rows"]) == kept
    # It is the state that the good data lead to, up to there.
    program.start(run.ell, run.seed)
    program.advance(rows_of(run, recipe, recording)[: ends[kept - 1]])
    for a, b in zip(loaded[0]["model"][:3], program.state()["model"][:3]):
        np.testing.assert_array_equal(a, b)


def test_failed_run_is_not_repeated(poisoned, recording, tmp_path):
    first = execute(RUN, poisoned[0], recording, tmp_path)
    assert execution.execute(RUN, refuse_program, recording, tmp_path) == first


def test_huge_learning_rate_without_norm(dataset, tmp_path):
    # eta lambda = 4: each SGD step multiplies the weights by -3 (and the gradient helps), until
    # the logits, which go as their product, leave float32.
    config = study_config(learning_rate=50.0, epochs=3.0, num_checkpoints=10)
    config["model"] |= {"norm": "none", "depth": 2}
    study = build(config)
    recipe, recording = study.recipe, study.recording
    program = CompiledTraining(recipe, recording, 128)
    run = RunSpec(128, 800.0, 1.0, 0, program.total)
    program.start(run.ell, run.seed)
    kernels = [w.astype(np.float64) for w in program.state()["model"][:3]]
    result = execute(run, program, recording, tmp_path)
    assert result["status"] == execution.FAILED
    # The same run in float64, where nothing overflows; until then both have the same magnitudes.
    # Sums inside the loss overflow a little before the loss itself: one step each way.
    net, x, y = DigitsNet(norm=False), dataset.train_x.astype(np.float64), dataset.train_y
    step = 0
    for batch in rows_of(run, recipe, recording):
        half = (x[batch[0::2]], y[batch[0::2]])
        if net.loss_and_accuracy(kernels, *half)[0] > float(np.finfo(np.float32).max):
            break
        step += 1
        gradient = net.gradient(kernels, *half)
        for i in range(2):
            kernels[i] = (1 - 800 * 5e-3) * kernels[i] - 800 * gradient[i]
    assert 3 < step < run.steps - 1 and abs(result["failed_step"] - step) <= 1
    text = RunFolder(tmp_path, run.name).metrics.read_text()
    assert "NaN" not in text and "Infinity" not in text
    for line in text.splitlines():
        assert math.isfinite(json.loads(line)["weight_norm"])
