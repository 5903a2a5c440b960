"""Tests of keras_svag/engine/execution.py: what a run records."""

import dataclasses
import hashlib
import itertools

import keras
import numpy as np
import pytest

from keras_svag.engine import execution
from keras_svag.engine.files import records
from keras_svag.engine.files.tensorboard import FILE_NAME
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder, _stream_seed
from keras_svag.theory import svag_coefficients
from tests.engine.conftest import RUN
from tests.engine.helpers import execute, refuse_program, rows_of
from tests.mlp_oracle import DigitsNet
from tests.studies.helpers import files_of

# Where records are taken.


@pytest.mark.parametrize(
    ("total", "count", "points"),
    [(22, 10, [2, 4, 7, 9, 11, 13, 15, 18, 20, 22]), (3, 10, [1, 2, 3]), (1, 60, [1]), (7, 1, [7])],
    ids=str,
)
@pytest.mark.parametrize("ell", [1.0, 2.0, 7.3])
def test_record_points(total, count, points, ell):
    # The same for every ell >= 1, so that curves have their points in the same places.
    run = RunSpec(8, 0.1, ell, 0, total)
    assert run.record_points(count) == points
    assert [run.steps_until(point) for point in points] == [round(point * ell) for point in points]
    assert run.steps == round(total * ell)


@pytest.mark.parametrize("total", [1, 2, 3, 22, 89])
@pytest.mark.parametrize("ell", [0.5, 0.75])
def test_record_points_below_one(total, ell):
    # ell = 1/2 takes half the steps: two points must not fall on one step, nor on none.
    run = RunSpec(8, 0.1, ell, 0, total)
    points = run.record_points(60)
    steps = [run.steps_until(point) for point in points]
    assert steps[0] >= 1 and all(np.diff(steps) >= 1) and all(np.diff(points) >= 1)
    assert points[-1] == total and steps[-1] == run.steps


def test_names_and_streams_of_runs_differ(recording):
    cells = itertools.product((8, 16), (1.0, 1.5, 16.0), (0, 1))
    grid = [RunSpec(batch_size, 0.1, ell, seed, 22) for batch_size, ell, seed in cells]
    assert len({run.name for run in grid}) == len(grid)
    assert grid[0].name == "b8_ell1_seed0"
    # Intervals over seeds and Welch's test rest on independent batches in all runs.
    assert len({_stream_seed(recording.seed, run) for run in grid}) == len(grid)
    assert {_stream_seed(1, r) for r in grid}.isdisjoint(
        _stream_seed(recording.seed, r) for r in grid
    )


# What is recorded.


@pytest.mark.parametrize("ell", [1.0, 3.0])
def test_records_are_those_of_a_run_in_numpy(program, recipe, recording, dataset, tmp_path, ell):
    # The whole run once more in NumPy and float64: batches, gradients by hand, the SVAG step
    # x <- (1 - eta/l lambda) x - eta/l (r1 g1 + r2 g2), N = |g1 - g2|^2 / 2 and G = <g1, g2>.
    # A seed with which no ReLU comes closer than 6e-7 to its kink, where rounding would decide; the
    # initial weights are other ones on each backend.
    run = dataclasses.replace(RUN, ell=ell, seed=5)
    execute(run, program, recording, tmp_path)
    rows = records.read_jsonl(RunFolder(tmp_path, run.name).metrics)
    program.start(ell, run.seed)
    kernels = [w.astype(np.float64) for w in program.state()["model"][:3]]
    x, y = dataset.train_x.astype(np.float64), dataset.train_y
    r1, r2 = svag_coefficients(ell)
    net, batches = DigitsNet(), rows_of(run, recipe, recording)
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
    result = records.read_sealed(folder.result)
    assert result.pop("seconds") > 0
    versions = result.pop("versions")
    assert versions["keras"] == keras.__version__ and versions["numpy"] == np.__version__
    assert {"python", "keras_svag", *versions} & {"jax", "tensorflow", "tensorflow-cpu"}
    digest = hashlib.sha256(folder.metrics.read_bytes()).hexdigest()
    assert result == {
        **dataclasses.asdict(RUN),
        "name": "b128_ell2_seed1",
        "status": "done",
        "identity": "",
        "records_sha256": digest,
    }


def test_finished_run_is_not_repeated(uninterrupted, recording):
    before = files_of(uninterrupted)
    reported = []
    result = execution.execute(RUN, refuse_program, recording, uninterrupted, reported.append)
    assert result["status"] == execution.DONE and reported == [RUN.steps]
    assert files_of(uninterrupted) == before


def test_progress_adds_up(program, recording, tmp_path):
    reported = []
    execute(RUN, program, recording, tmp_path, on_steps=reported.append)
    assert sum(reported) == RUN.steps == 44 and len(reported) == 11


@pytest.mark.parametrize("ell", [0.5])
def test_run_below_one(program, recording, tmp_path, ell):
    # Records every 2.2 effective steps, which are 1.1 steps here.
    run = dataclasses.replace(RUN, ell=ell)
    assert execute(run, program, recording, tmp_path)["status"] == execution.DONE
    rows = records.read_jsonl(RunFolder(tmp_path, run.name).metrics)
    steps = [row["step"] for row in rows]
    assert steps[-1] == 11 and sorted(set(steps)) == steps
    # 18 of 22 effective steps at the full rate, the rest at a tenth: 9 and 2 steps.
    assert rows[-1]["time"] == pytest.approx(2 * 3.2 * 9 + 2 * 0.32 * 2)


# Processes that train together.


def test_run_that_is_locked_for_another_process_is_locked_for_this_one(
    recording, tmp_path, monkeypatch
):
    # Only the first one sees the lock in the shared folder; the others would train alone.
    monkeypatch.setattr(execution, "max_over_processes", lambda value: 1)
    result = execution.execute(RUN, refuse_program, recording, tmp_path)
    assert result["status"] == execution.LOCKED
    assert not RunFolder(tmp_path, RUN.name).result.exists()
