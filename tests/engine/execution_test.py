"""Tests of keras_svag/study/runs.py: what a run records, and that it can be interrupted."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest

from keras_svag.datasets import Sampler
from keras_svag.study import checkpoints, lock, pool, preemption, records, runs
from keras_svag.study.config import validate_config
from keras_svag.study.program import Program
from keras_svag.study.runs import Run, RunFolder
from keras_svag.study.tensorboard import FILE_NAME
from keras_svag.theory import svag_coefficients
from tests.mlp_oracle import DigitsNet
from tests.study.helpers import Interrupted, files_of, interrupt_after, study_config

RUN = Run(batch_size=128, learning_rate=3.2, ell=2.0, seed=1, total=22)


def execute(run, program, config, workdir, **options):
    return runs.execute(run, lambda: program, config, workdir, **options)


def refuse_program():
    raise AssertionError("a finished run asked for its program")


def rows_of(run, config):
    sampler = Sampler(1437, run.batch_size, config["sampling"], runs._stream_seed(config, run))
    return sampler.rows(0, run.steps)


@pytest.fixture(scope="module")
def uninterrupted(program, config, tmp_path_factory):
    """Folder of `RUN`, executed without interruption."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    execute(RUN, program, config, workdir)
    return workdir


# Where records are taken.


@pytest.mark.parametrize(
    ("total", "count", "points"),
    [(22, 10, [2, 4, 7, 9, 11, 13, 15, 18, 20, 22]), (3, 10, [1, 2, 3]), (1, 60, [1]), (7, 1, [7])],
    ids=str,
)
@pytest.mark.parametrize("ell", [1.0, 2.0, 7.3])
def test_record_points(total, count, points, ell):
    # The same for every ell >= 1, so that curves have their points in the same places.
    run = Run(8, 0.1, ell, 0, total)
    assert run.record_points(count) == points
    assert [run.steps_until(point) for point in points] == [round(point * ell) for point in points]
    assert run.steps == round(total * ell)


@pytest.mark.parametrize("total", [1, 2, 3, 22, 89])
@pytest.mark.parametrize("ell", [0.5, 0.75])
def test_record_points_below_one(total, ell):
    # ell = 1/2 takes half the steps: two points must not fall on one step, nor on none.
    run = Run(8, 0.1, ell, 0, total)
    points = run.record_points(60)
    steps = [run.steps_until(point) for point in points]
    assert steps[0] >= 1 and all(np.diff(steps) >= 1) and all(np.diff(points) >= 1)
    assert points[-1] == total and steps[-1] == run.steps


def test_names_and_streams_of_runs_differ(config):
    cells = itertools.product((8, 16), (1.0, 1.5, 16.0), (0, 1))
    grid = [Run(batch_size, 0.1, ell, seed, 22) for batch_size, ell, seed in cells]
    assert len({run.name for run in grid}) == len(grid)
    assert grid[0].name == "b8_ell1_seed0"
    # Intervals over seeds and Welch's test rest on independent batches in all runs.
    assert len({runs._stream_seed(config, run) for run in grid}) == len(grid)
    other = {**config, "seed": 1}
    assert {runs._stream_seed(other, r) for r in grid}.isdisjoint(
        runs._stream_seed(config, r) for r in grid
    )


# What is recorded.


@pytest.mark.parametrize("ell", [1.0, 3.0])
def test_records_are_those_of_a_run_in_numpy(program, config, dataset, tmp_path, ell):
    # The whole run once more in NumPy and float64: batches, gradients by hand, the SVAG step
    # x <- (1 - eta/l lambda) x - eta/l (r1 g1 + r2 g2), N = |g1 - g2|^2 / 2 and G = <g1, g2>.
    # A seed with which no ReLU comes closer than 6e-7 to its kink, where rounding would decide; the
    # initial weights are other ones on each backend.
    run = dataclasses.replace(RUN, ell=ell, seed=5)
    execute(run, program, config, tmp_path)
    rows = records.read_jsonl(RunFolder(tmp_path, run.name).metrics)
    program.start(ell, run.seed)
    kernels = [w.astype(np.float64) for w in program.state()["model"][:3]]
    x, y = dataset.train_x.astype(np.float64), dataset.train_y
    r1, r2 = svag_coefficients(ell)
    net, batches = DigitsNet(), rows_of(run, config)
    time, step = 0.0, 0
    assert [row["effective_step"] for row in rows] == [2, 4, 7, 9, 11, 13, 15, 18, 20, 22]
    for row in rows:
        logs = []
        while step < row["effective_step"] * ell:
            rate = 3.2 * (0.1 if step // ell >= 18 else 1.0)  # 0.8 * 22 = 17.6
            halves = [(x[i], y[i]) for i in (batches[step, 0::2], batches[step, 1::2])]
            g1, g2 = (net.gradient(kernels, *half) for half in halves)
            results = [net.loss_and_accuracy(kernels, *half) for half in halves]
            logs.append(
                [
                    *np.mean(results, axis=0),
                    sum(np.sum((a - b) ** 2) for a, b in zip(g1, g2)) / 2,
                    sum(np.sum(a * b) for a, b in zip(g1, g2)),
                ]
            )
            for i in range(2):
                kernels[i] *= 1 - rate / ell * 5e-3
                kernels[i] -= rate / ell * (r1 * g1[i] + r2 * g2[i])
            time += rate / ell
            step += 1
        loss, accuracy, noise, signal = np.mean(logs, axis=0)
        train_loss, train_accuracy = net.loss_and_accuracy(kernels, x, y)
        test = net.loss_and_accuracy(kernels, dataset.test_x.astype(np.float64), dataset.test_y)
        assert row["step"] == step
        assert row["time"] == pytest.approx(time, rel=1e-6)  # rates are float32
        assert row["learning_rate"] == pytest.approx(rate)
        # Float32 against float64: 1e-7 a step, which grew to 1e-6 when measured.
        close = {"rel": 2e-5}
        assert row["loss"] == pytest.approx(loss, **close)
        assert row["gradient_noise"] == pytest.approx(noise, **close)
        assert row["gradient_signal"] == pytest.approx(signal, **close)
        assert row["noise_to_signal"] == pytest.approx(noise / signal, **close)
        assert row["weight_norm"] == pytest.approx(sum(np.sum(k**2) for k in kernels[:2]), rel=1e-6)
        assert row["train_loss"] == pytest.approx(train_loss, **close)
        assert row["test_loss"] == pytest.approx(test[0], **close)
        # One example may lie between two classes as closely as rounding.
        assert row["accuracy"] == pytest.approx(accuracy, abs=1.5 / 256)
        assert row["train_accuracy"] == pytest.approx(train_accuracy, abs=1.5 / 1437)
        assert row["test_accuracy"] == pytest.approx(test[1], abs=1.5 / 360)


def test_files_of_a_run(uninterrupted):
    folder = RunFolder(uninterrupted, RUN.name)
    names = {"metrics.jsonl", "checkpoint/latest.npz", "result.json"}
    assert set(files_of(folder.path)) == names | {f"tensorboard/{FILE_NAME}"}
    result = records.read_json(folder.result)
    assert result.pop("seconds") > 0
    assert result == {**dataclasses.asdict(RUN), "name": "b128_ell2_seed1", "status": "done"}


def test_finished_run_is_not_repeated(uninterrupted, config):
    before = files_of(uninterrupted)
    reported = []
    result = runs.execute(RUN, refuse_program, config, uninterrupted, reported.append)
    assert result["status"] == runs.DONE and reported == [RUN.steps]
    assert files_of(uninterrupted) == before


def test_progress_adds_up(program, config, tmp_path):
    reported = []
    execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert sum(reported) == RUN.steps == 44 and len(reported) == 11


@pytest.mark.parametrize("ell", [0.5])
def test_run_below_one(program, config, tmp_path, ell):
    # Records every 2.2 effective steps, which are 1.1 steps here.
    run = dataclasses.replace(RUN, ell=ell)
    assert execute(run, program, config, tmp_path)["status"] == runs.DONE
    rows = records.read_jsonl(RunFolder(tmp_path, run.name).metrics)
    steps = [row["step"] for row in rows]
    assert steps[-1] == 11 and sorted(set(steps)) == steps
    # 18 of 22 effective steps at the full rate, the rest at a tenth: 9 and 2 steps.
    assert rows[-1]["time"] == pytest.approx(2 * 3.2 * 9 + 2 * 0.32 * 2)


# Interruption.


def assert_same_end(workdir, expected, run=RUN):
    """Same records to the byte, same weights and optimizer to the bit."""
    got, wanted = RunFolder(workdir, run.name), RunFolder(expected, run.name)
    assert got.metrics.read_bytes() == wanted.metrics.read_bytes()
    with np.load(got.checkpoint) as a, np.load(wanted.checkpoint) as b:
        assert sorted(a.files) == sorted(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert records.read_json(got.result)["status"] == "done"


@pytest.mark.parametrize("recorded", [0, 1, 2, 3, 5, 8, 9])
def test_interrupted_run_ends_the_same(program, config, uninterrupted, tmp_path, recorded):
    folder = RunFolder(tmp_path, RUN.name)
    with pytest.raises(Interrupted):
        execute(RUN, program, config, tmp_path, on_steps=interrupt_after(recorded))
    # The checkpoint of record 3 is written after its progress is told: 0, 3, 6 or 9 rows stand.
    kept = max(0, (recorded - 1) // 3 * 3)
    assert len(records.read_jsonl(folder.metrics)) == kept
    assert not folder.result.exists()
    program.start(1.0, seed=7)  # other runs come between
    program.advance(np.zeros((3, 256), np.int32))
    reported = []
    execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert reported[0] == round(2 * RUN.record_points(10)[kept - 1] if kept else 0)
    assert sum(reported) == RUN.steps
    assert_same_end(tmp_path, uninterrupted)


def test_interrupted_twice(program, config, uninterrupted, tmp_path):
    for recorded in (5, 3):
        with pytest.raises(Interrupted):
            execute(RUN, program, config, tmp_path, on_steps=interrupt_after(recorded))
    execute(RUN, program, config, tmp_path)
    assert_same_end(tmp_path, uninterrupted)


def test_killed_between_records_and_checkpoint(
    program, config, uninterrupted, tmp_path, monkeypatch
):
    # The rows of record 4 to 6 are written, their checkpoint is not; a temporary file stays.
    save, calls = checkpoints.save, []

    def fail_second(path, *args, **kwargs):
        calls.append(path)
        if len(calls) == 2:
            (path / ".1.ab.tmp.latest.npz").write_bytes(b"half")
            raise Interrupted
        save(path, *args, **kwargs)

    monkeypatch.setattr(checkpoints, "save", fail_second)
    with pytest.raises(Interrupted):
        execute(RUN, program, config, tmp_path)
    folder = RunFolder(tmp_path, RUN.name)
    assert len(records.read_jsonl(folder.metrics)) == 6
    assert len(checkpoints.load(folder.checkpoints, [])[1]["rows"]) == 3
    execute(RUN, program, config, tmp_path)
    assert_same_end(tmp_path, uninterrupted)
    # The temporary file too is gone.
    assert set(files_of(folder.path)) == set(files_of(RunFolder(uninterrupted, RUN.name).path))


def test_killed_between_last_checkpoint_and_result(program, config, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    RunFolder(tmp_path, RUN.name).result.unlink()
    reported = []
    execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert reported == [RUN.steps]
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("every", [1, 3, 5, 100])
def test_cadence_in_effective_steps_changes_nothing_but_the_checkpoints(
    program, config, uninterrupted, tmp_path, monkeypatch, every
):
    # Between records too (which end at 2, 4, 7, 9 ...): their means go on over the cut.
    save, steps = checkpoints.save, []

    def note(folder, groups, **facts):
        steps.append(facts["step"])
        save(folder, groups, **facts)

    monkeypatch.setattr(checkpoints, "save", note)
    execute(RUN, program, config | {"checkpoint_steps": every}, tmp_path)
    assert steps == [2 * effective for effective in range(every, 22, every)] + [44]
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("at", [1, 2, 4, 7, 12])
def test_goes_on_from_between_two_records(program, config, uninterrupted, tmp_path, at):
    # A checkpoint after every effective step; most lie between two records.
    config = config | {"checkpoint_steps": 1}
    with pytest.raises(Interrupted):
        execute(RUN, program, config, tmp_path, on_steps=interrupt_after(at))
    program.start(1.0, seed=7)  # other runs come between, with other metrics
    program.advance(np.zeros((3, 256), np.int32))
    reported = []
    execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert reported[0] == 2 * (at - 1) and sum(reported) == RUN.steps
    assert_same_end(tmp_path, uninterrupted)


def test_long_records_are_taken_in_pieces(program, config, uninterrupted, tmp_path, monkeypatch):
    # What is drawn at once does not grow with ell, nor the time until a run can be interrupted.
    monkeypatch.setattr(type(program), "steps_per_piece", 3)
    draw, asked = program.draw, []
    monkeypatch.setattr(
        program, "draw", lambda seed, a, b: (asked.append(b - a), draw(seed, a, b))[1]
    )
    execute(RUN, program, config, tmp_path)
    assert max(asked) == 3 and sum(asked) == RUN.steps
    assert_same_end(tmp_path, uninterrupted)


def preempt_after(count):
    """An `on_steps` that sends SIGTERM to this process at its call number `count`."""
    calls = iter(range(1000))
    return lambda _: os.kill(os.getpid(), signal.SIGTERM) if next(calls) == count else None


@pytest.mark.parametrize("at", [0, 4, 9, 13])
def test_sigterm_writes_a_checkpoint_and_loses_nothing(
    program, config, uninterrupted, tmp_path, monkeypatch, watched, at
):
    # In pieces of three steps, so that most of them end between two records.
    monkeypatch.setattr(type(program), "steps_per_piece", 3)
    steps = []
    preempt = preempt_after(at)
    with pytest.raises(preemption.PreemptedError, match="asked to end"):
        execute(RUN, program, config, tmp_path, on_steps=lambda n: (steps.append(n), preempt(n)))
    folder = RunFolder(tmp_path, RUN.name)
    assert not folder.result.exists() and not folder.lock.exists()
    # One more piece, and not a step of it is lost.
    assert checkpoints.load(folder.checkpoints, [])[1]["step"] == sum(steps)
    assert len(steps) == at + 2
    preemption._requested.clear()
    resumed = []
    execute(RUN, program, config, tmp_path, on_steps=resumed.append)
    assert resumed[0] == sum(steps)
    assert_same_end(tmp_path, uninterrupted)


def test_sigterm_in_the_last_piece_leaves_a_finished_run(program, config, tmp_path, watched):
    result = execute(RUN, program, config, tmp_path, on_steps=preempt_after(9))
    assert result["status"] == runs.DONE and preemption.requested()
    with pytest.raises(preemption.PreemptedError):
        pool.execute_in_turn(refuse_program, [RUN], lambda run, steps: None)


def test_runs_of_others_come_last(monkeypatch):
    # Another process is at the first; it is asked for again when all others are done.
    grid = [dataclasses.replace(RUN, seed=seed) for seed in range(3)]
    asked = []

    def execute(run, on_steps):
        asked.append(run.seed)
        locked = run.seed == 0 and asked.count(0) < 4
        return {"status": runs.LOCKED if locked else runs.DONE}

    slept = []
    monkeypatch.setattr(pool.time, "sleep", slept.append)
    results = pool.execute_in_turn(execute, grid, lambda run, steps: None)
    assert asked == [0, 1, 2, 0, 0, 0] and len(slept) == 2
    assert {r["status"] for r in results.values()} == {runs.DONE} and len(results) == 3


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
def test_full_disk(program, config, uninterrupted, tmp_path, size):
    folder = interrupted_with_two_checkpoints(program, config, tmp_path)
    before, metrics = files_of(folder.checkpoints), folder.metrics.read_bytes()
    with file_size_limit(size):
        with pytest.raises(records.WriteError) as error:
            execute(RUN, program, config, tmp_path)
    assert f"`{folder.path}" in str(error.value) and "could not be written: " in str(error.value)
    assert "Free some space" in str(error.value) and "goes on from the last" in str(error.value)
    # Both checkpoints are as they were; of the records there may be more.
    assert files_of(folder.checkpoints) == before
    assert folder.metrics.read_bytes().startswith(metrics) and records.read_jsonl(folder.metrics)
    assert not folder.lock.exists() and not folder.result.exists()
    # When there is space again nothing is lost.
    reported = []
    execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert reported[0] == 26
    assert_same_end(tmp_path, uninterrupted)


def interrupted_with_two_checkpoints(program, config, workdir):
    """Interrupts `RUN` after the checkpoints of its records 3 and 6."""
    with pytest.raises(Interrupted):
        execute(RUN, program, config, workdir, on_steps=interrupt_after(8))
    folder = RunFolder(workdir, RUN.name)
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["latest.npz", "previous.npz"]
    return folder


@pytest.mark.parametrize("damaged", [["latest"], ["latest", "previous"]], ids=str)
def test_damaged_checkpoint_gives_way_to_the_one_before(
    program, config, uninterrupted, tmp_path, damaged
):
    folder = interrupted_with_two_checkpoints(program, config, tmp_path)
    for name in damaged:
        path = folder.checkpoints / f"{name}.npz"
        path.write_bytes(path.read_bytes()[:-1000])
    reported = []
    with pytest.warns(UserWarning, match="is damaged .* The one before it is used") as warned:
        execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert len([w for w in warned if "is damaged" in str(w.message)]) == len(damaged)
    # Record 3 ends at step 14; without a checkpoint the run starts anew.
    assert reported[0] == (14 if damaged == ["latest"] else 0)
    assert_same_end(tmp_path, uninterrupted)


def test_truncated_records_of_an_interrupted_run(program, config, uninterrupted, tmp_path):
    folder = interrupted_with_two_checkpoints(program, config, tmp_path)
    folder.metrics.write_bytes(folder.metrics.read_bytes()[:-7])
    reported = []
    execute(RUN, program, config, tmp_path, on_steps=reported.append)
    assert reported[0] == 26  # nothing is trained twice: checkpoints hold the rows too
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("left", ["cut", "fewer lines", "none"])
def test_truncated_records_of_a_finished_run(program, config, uninterrupted, tmp_path, left):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    metrics = RunFolder(tmp_path, RUN.name).metrics
    content = metrics.read_bytes()
    lines = b"".join(content.splitlines(keepends=True)[:-1])
    metrics.write_bytes({"cut": content[:-7], "fewer lines": lines, "none": b""}[left])
    with pytest.warns(UserWarning, match="metrics.jsonl` is damaged or incomplete"):
        result = execute(RUN, program, config, tmp_path)
    assert result["status"] == runs.DONE and metrics.read_bytes() == content
    assert_same_end(tmp_path, uninterrupted)


@pytest.mark.parametrize("change", [{"seed": 2}, {"learning_rate": 3.1}, {"total": 23}], ids=str)
def test_checkpoint_of_another_run_is_refused(program, config, uninterrupted, tmp_path, change):
    other = dataclasses.replace(RUN, **change)
    shutil.copytree(
        RunFolder(uninterrupted, RUN.name).checkpoints, RunFolder(tmp_path, other.name).checkpoints
    )
    before = files_of(tmp_path)
    (name,) = change
    with pytest.raises(ValueError, match=f"latest.npz` must be one of this run.* its {name} is"):
        execute(other, program, config, tmp_path)
    assert files_of(tmp_path) == before


def test_checkpoint_of_another_model_is_refused(config, dataset, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    RunFolder(tmp_path, RUN.name).result.unlink()
    before = files_of(tmp_path)
    wide = Program(config | {"model": {**config["model"], "width": 2}}, dataset, 128)
    with pytest.raises(ValueError) as error:
        execute(RUN, wide, config, tmp_path)
    message = str(error.value)
    assert "latest.npz` must be one of this run and this model" in message
    assert "array 0 of 'model' is float32[64, 64], in this model float32[64, 128]" in message
    assert "Use another --workdir, or move the run's folder away" in message
    assert files_of(tmp_path) == before


def test_run_that_another_process_is_at_is_left_alone(config, tmp_path):
    with lock.hold(RunFolder(tmp_path, RUN.name).lock):
        before = files_of(tmp_path)
        assert runs.execute(RUN, refuse_program, config, tmp_path) == {"status": runs.LOCKED}
        assert files_of(tmp_path) == before


# Divergence.


@pytest.fixture(scope="module")
def poisoned(config, dataset):
    """A program on the digits with one image of nan, and that image's index."""
    # First read by RUN in the middle of the run, between two checkpoints.
    rows = rows_of(RUN, config)
    first_step = {int(i): step for step in range(len(rows) - 1, -1, -1) for i in rows[step]}
    index = next(i for i, step in sorted(first_step.items()) if step == 17)
    poisoned = dataclasses.replace(dataset, train_x=dataset.train_x.copy())
    poisoned.train_x[index] = np.nan  # a data set is not made with one
    return CompiledTraining(with_nan(recipe, index), recording, 128), index


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nan_names_its_step_and_keeps_the_last_good_checkpoint(
    poisoned, program, config, tmp_path, seed
):
    # The first step that reads the poisoned image, in whichever half, is the one at fault.
    poisoned_program, index = poisoned
    run = dataclasses.replace(RUN, seed=seed)
    expected = int(np.flatnonzero(np.any(rows_of(run, config) == index, axis=1))[0])
    assert seed != 1 or expected == 17
    result = execute(run, poisoned_program, config, tmp_path)
    assert result["status"] == runs.FAILED and result["failed_step"] == expected
    assert result["message"] == (
        f"Run {run.name}: the loss or the weights were no longer finite after step {expected}. "
        "Lower `learning_rate`; the records and the checkpoint before it, if any, are kept."
    )
    folder = RunFolder(tmp_path, run.name)
    assert records.read_json(folder.result) == result
    # All records before the step stand, and are finite. Checkpoints follow records 3, 6, 9.
    ends = [run.steps_until(p) for p in run.record_points(10)]
    recorded = sum(end <= expected for end in ends)
    kept = recorded // 3 * 3
    rows = records.read_jsonl(folder.metrics)
    assert len(rows) == recorded and all(math.isfinite(row["loss"]) for row in rows)
    loaded = checkpoints.load(folder.checkpoints, runs.STATE_GROUPS)
    if kept == 0:
        assert loaded is None
        return
    assert len(loaded[1]["rows"]) == kept
    # It is the state that the good data lead to, up to there.
    program.start(run.ell, run.seed)
    program.advance(rows_of(run, config)[: ends[kept - 1]])
    for a, b in zip(loaded[0]["model"][:3], program.state()["model"][:3]):
        np.testing.assert_array_equal(a, b)


def test_failed_run_is_not_repeated(poisoned, config, tmp_path):
    first = execute(RUN, poisoned[0], config, tmp_path)
    assert runs.execute(RUN, refuse_program, config, tmp_path) == first


def test_huge_learning_rate_without_norm(dataset, tmp_path):
    # eta lambda = 4: each SGD step multiplies the weights by -3 (and the gradient helps), until
    # the logits, which go as their product, leave float32.
    config = validate_config(study_config(learning_rate=50.0, epochs=3.0, num_checkpoints=10))
    config["model"]["norm"] = "none"
    program = Program(config, dataset, 128)
    run = Run(128, 800.0, 1.0, 0, program.total)
    program.start(run.ell, run.seed)
    kernels = [w.astype(np.float64) for w in program.state()["model"][:3]]
    result = execute(run, program, config, tmp_path)
    assert result["status"] == runs.FAILED
    # The same run in float64, where nothing overflows; until then both have the same magnitudes.
    # Sums inside the loss overflow a little before the loss itself: one step each way.
    net, x, y = DigitsNet(norm=False), dataset.train_x.astype(np.float64), dataset.train_y
    step = 0
    for batch in rows_of(run, config):
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
