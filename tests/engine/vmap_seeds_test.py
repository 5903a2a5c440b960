"""Tests of keras_svag/engine/vmap_seeds.py: seeds side by side are the seeds one by one."""

import dataclasses
import itertools
import os
import signal

import keras
import numpy as np
import pytest

from keras_svag.datasets.augmentation import PadCropFlip
from keras_svag.device_loop import VmappedTrainLoop
from keras_svag.engine import vmap_seeds
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.files import lock, records
from keras_svag.engine.processes import preemption
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.models import preresnet
from keras_svag.recipe import Recipe
from tests.engine.conftest import forget_request
from tests.engine.helpers import (
    Interrupted,
    execute,
    final_state,
    refuse_program,
    rows_of,
    saved_step,
    with_nan,
)
from tests.studies.helpers import files_of

needs_jax = pytest.mark.requires_jax
GROUP = [
    RunSpec(batch_size=128, learning_rate=3.2, ell=2.0, seed=seed, total=22) for seed in range(3)
]
# 44 steps of float32: roundings of 1e-7 grew to 1e-6 against float64 in execution_test.py.
CLOSE = 2e-5


def execute_group(group, program, recording, workdir, **options):
    workdir.mkdir(exist_ok=True)
    return vmap_seeds.execute_group(group, lambda: program, recording, workdir, **options)


@pytest.fixture(scope="module")
def alone(program, recording, tmp_path_factory):
    """A folder with the runs of the group, each trained by itself."""
    workdir = tmp_path_factory.mktemp("alone")
    for run in GROUP:
        execute(run, program, recording, workdir)
    return workdir


def assert_same_rows(workdir, expected, run, close=CLOSE, examples=256):
    got, wanted = (
        records.read_jsonl(RunFolder(folder, run.name).metrics) for folder in (workdir, expected)
    )
    assert len(got) == len(wanted) > 0
    for a, b in zip(got, wanted):
        assert list(a) == list(b)
        for column in a:
            if b[column] is None:  # a ratio to a signal below zero
                assert a[column] is None
                continue
            # An example between two classes may fall on either side.
            of_examples = {"abs": 1.5 / examples} if "accuracy" in column else {"rel": close}
            assert a[column] == pytest.approx(b[column], **of_examples), (run.name, column)


def assert_same_end(workdir, expected, run, close=CLOSE):
    """The same files; the same rows, weights and optimizer up to rounding."""
    got, wanted = (RunFolder(folder, run.name) for folder in (workdir, expected))
    assert files_of(got.path).keys() == files_of(wanted.path).keys()
    assert_same_rows(workdir, expected, run, close)
    results = [records.read_sealed(folder.result) for folder in (got, wanted)]
    assert all(result.pop("seconds") > 0 for result in results)
    assert all(result.pop("records_sha256") for result in results)  # of records that are close
    assert results[0] == results[1]
    states = [final_state(folder, run) for folder in (workdir, expected)]
    assert states[0][1]["run"] == states[1][1]["run"] and states[0][1]["step"] == run.steps
    for name in ("model", "optimizer"):
        for a, b in zip(*(state[name] for state, _ in states), strict=True):
            np.testing.assert_allclose(a, b, rtol=10 * close, atol=close)


# Numbers.


@needs_jax
def test_group_leaves_what_its_runs_leave_alone(program, recording, alone, tmp_path):
    told = dict.fromkeys(GROUP, 0)

    def on_steps(run, count):
        told[run] += count

    results = execute_group(GROUP, program, recording, tmp_path, on_steps=on_steps)
    assert {name: r["status"] for name, r in results.items()} == {r.name: "done" for r in GROUP}
    assert set(told.values()) == {44}
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)
        assert records.read_sealed(RunFolder(tmp_path, run.name).result) == results[run.name]
    # Another ell is data to the same program.
    traces = program.vmapped_loop.num_traces
    others = [dataclasses.replace(run, ell=1.0) for run in GROUP]
    execute_group(others, program, recording, tmp_path)
    assert program.vmapped_loop.num_traces == traces
    first, second = (final_state(tmp_path, run)[0]["model"][0] for run in GROUP[:2])
    assert not np.allclose(first, second, rtol=0.1)


@needs_jax
@pytest.mark.slow
def test_convolutions_batch_norm_and_augmentation(dataset, tmp_path):
    def build_network(seed):
        return preresnet((8, 8, 1), 10, seed=seed, depth=8, width=0.25, norm="batch")

    recipe = Recipe(
        build_network,
        (dataset.train_x[:200, :, :, None], dataset.train_y[:200]),
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        epochs=0.5,
        test_data=(dataset.test_x[:50, :, :, None], dataset.test_y[:50]),
        metrics=["accuracy"],
        augment=PadCropFlip(padding=1, flip=False),
    )
    recording = Recording(num_records=3)
    program = CompiledTraining(recipe, recording, batch_size=16)
    group = [RunSpec(16, 0.1, 2.0, seed, program.total) for seed in (0, 1)]
    # By itself such a network does not go in groups, not on an accelerator either.
    assert (
        execute_group(group, program, recording, tmp_path / "group", with_convolutions=False) == {}
    )
    assert len(execute_group(group, program, recording, tmp_path / "group")) == 2
    for run in group:
        execute(run, program, recording, tmp_path / "alone")
        assert run.steps == 12
        assert_same_rows(tmp_path / "group", tmp_path / "alone", run, 1e-4, examples=32)


# Interruption.


@needs_jax
def test_sigterm_saves_all_at_one_step_and_each_goes_on_alone_or_together(
    program, recording, alone, tmp_path, monkeypatch, watched
):
    monkeypatch.setattr(type(program), "steps_per_segment", 3)
    told = []

    def on_steps(run, count):
        told.append((run.seed, count))
        if len(told) == 13:  # of the first of three runs, in the middle of a piece
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(preemption.PreemptedError):
        execute_group(GROUP, program, recording, tmp_path, on_steps=on_steps)
    forget_request()
    taken = [sum(count for seed, count in told if seed == run.seed) for run in GROUP]
    steps = [saved_step(tmp_path, run) for run in GROUP]
    assert steps == taken == [taken[0]] * 3 and 0 < taken[0] < 44
    assert not any(RunFolder(tmp_path, run.name).result.exists() for run in GROUP)
    execute(GROUP[0], program, recording, tmp_path)
    resumed = []
    results = execute_group(
        GROUP, program, recording, tmp_path, on_steps=lambda run, n: resumed.append((run.seed, n))
    )
    assert results.keys() == {run.name for run in GROUP[1:]}
    assert resumed[:2] == [(1, taken[0]), (2, taken[0])]
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)


@needs_jax
def test_run_at_another_step_is_left_for_later(program, recording, alone, tmp_path, monkeypatch):
    # Killed when the first run has its checkpoint of record 6 and the others still that of 3.
    savez, count = np.savez, itertools.count(1)

    def fail_fifth(*arguments, **arrays):
        if next(count) == 5:
            raise Interrupted
        savez(*arguments, **arrays)

    monkeypatch.setattr(np, "savez", fail_fifth)
    with pytest.raises(Interrupted):
        execute_group(GROUP, program, recording, tmp_path)
    told = []
    results = execute_group(
        GROUP, program, recording, tmp_path, on_steps=lambda run, n: told.append((run.seed, n))
    )
    assert told[:2] == [(1, 14), (2, 14)] and {seed for seed, _ in told} == {1, 2}
    assert results.keys() == {run.name for run in GROUP[1:]}
    assert not RunFolder(tmp_path, GROUP[0].name).result.exists()
    execute(GROUP[0], program, recording, tmp_path)
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)


@needs_jax
def test_one_that_diverges_fails_alone(recipe, tmp_path):
    # Four steps; an image of nan that the second run reads in its third step, the others never.
    group = [RunSpec(128, 3.2, 1.0, seed, 4) for seed in range(3)]
    recording = Recording(num_records=4, num_checkpoints=4, evaluation_size=1)
    rows = [rows_of(run, recipe, recording) for run in group]
    early = set(rows[0].ravel()) | set(rows[2].ravel()) | set(rows[1][:2].ravel())
    index = min(set(rows[1][2].ravel()) - early)
    program = CompiledTraining(with_nan(recipe, index), recording, 128)
    results = execute_group(group, program, recording, tmp_path / "group")
    for run in group:
        alone = execute(run, program, recording, tmp_path / "alone")
        got = results[run.name]
        assert got.pop("seconds") > 0 and alone.pop("seconds") > 0 and got == alone
        assert_same_rows(tmp_path / "group", tmp_path / "alone", run, examples=1)
    assert [results[run.name]["status"] for run in group] == ["done", "failed", "done"]
    assert results[group[1].name]["failed_step"] == 2
    assert saved_step(tmp_path / "group", group[1]) == 2


# Runs that are elsewhere, and what a pool makes of groups.


@needs_jax
def test_finished_and_locked_runs_stay_out(program, recording, alone, tmp_path):
    assert vmap_seeds.execute_group(GROUP, refuse_program, recording, alone) == {}
    with lock.acquire(RunFolder(tmp_path, GROUP[0].name).lock):
        two = GROUP[:2]
        assert vmap_seeds.execute_group(two, refuse_program, recording, tmp_path) == {}
        with lock.acquire(RunFolder(tmp_path, two[1].name).lock) as free:
            assert free
        results = execute_group(GROUP, program, recording, tmp_path)
    assert results.keys() == {run.name for run in GROUP[1:]}


@needs_jax
def test_pool_does_groups_first_and_the_rest_one_by_one(recipe, recording, tmp_path):
    lonely = RunSpec(128, 3.2, 1.0, 0, 22)
    grid = [lonely, *GROUP[:2]]
    told = []
    with RunPool(recipe, recording, tmp_path, vectorize_seeds=True) as workers:
        results = workers.execute(grid, lambda run, count: told.append((run, count)))
        assert workers.execute(grid, lambda run, count: None) == results
    for run in grid:
        assert sum(count for other, count in told if other == run) == run.steps
    order = [run for run, _ in told]
    # Those of the group in turns, and the other one after them.
    pairs = len(order[: order.index(lonely)]) // 2
    assert order[: 2 * pairs] == GROUP[:2] * pairs and set(order[2 * pairs :]) == {lonely}
    assert [results[run.name]["status"] for run in grid] == ["done"] * 3


@needs_jax
def test_no_room_for_all_at_once(recipe, recording, alone, tmp_path, monkeypatch):
    run_loop, count = VmappedTrainLoop.run, itertools.count(1)

    def fail_at_sixth(*args, **kwargs):
        if next(count) == 6:
            raise MemoryError("the device has no room")
        return run_loop(*args, **kwargs)

    monkeypatch.setattr(VmappedTrainLoop, "run", fail_at_sixth)
    steps = dict.fromkeys(GROUP, 0)

    def on_steps(run, count):
        steps[run] += count

    with RunPool(recipe, recording, tmp_path, 1, vectorize_seeds=True) as workers:
        with pytest.warns(UserWarning, match="3 seeds .* no room"):
            workers.execute(GROUP, on_steps)
    # The checkpoint is that of record 3; what came after it was trained and told again.
    assert set(steps.values()) == {44}
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)
