"""Tests of keras_svag/study/groups.py: seeds side by side are the seeds one by one."""

import dataclasses
import os
import signal

import keras
import numpy as np
import pytest
from keras_svag.study import checkpoints, groups, lock, pool, preemption, records, runs
from keras_svag.study.config import validate_config
from keras_svag.study.groups import execute_group, groups_of, is_vectorized
from keras_svag.study.program import Program
from keras_svag.study.runs import Run, RunFolder
from tests.study.helpers import Interrupted, files_of, study_config

from keras_svag.datasets import digits
from keras_svag.datasets.augmentation import PadCropFlip

needs_jax = pytest.mark.requires_jax
GROUP = [Run(batch_size=128, learning_rate=3.2, ell=2.0, seed=seed, total=22) for seed in range(3)]
# 44 steps of float32: roundings of 1e-7 grew to 1e-6 against float64 in runs_test.py.
CLOSE = 2e-5


def execute(group, program, config, workdir, **options):
    return execute_group(group, lambda: program, config, workdir, **options)


def execute_alone(run, program, config, workdir):
    return runs.execute(run, lambda: program, config, workdir)


@pytest.fixture(scope="module")
def vectorized(config):
    """The config under which the group is one program on a CPU too."""
    return config | {"vectorize_seeds": True}


@pytest.fixture(scope="module")
def alone(program, config, tmp_path_factory):
    """A folder with the runs of the group, each trained by itself."""
    workdir = tmp_path_factory.mktemp("alone")
    for run in GROUP:
        execute_alone(run, program, config, workdir)
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
    results = [records.read_json(folder.result) for folder in (got, wanted)]
    assert all(result.pop("seconds") > 0 for result in results) and results[0] == results[1]
    states = [checkpoints.read(folder.checkpoint, runs.STATE_GROUPS) for folder in (got, wanted)]
    assert states[0][1]["run"] == states[1][1]["run"] and states[0][1]["step"] == run.steps
    for name in ("model", "optimizer"):
        for a, b in zip(*(state[name] for state, _ in states), strict=True):
            np.testing.assert_allclose(a, b, rtol=10 * close, atol=close)


# Numbers.


@needs_jax
def test_group_leaves_what_its_runs_leave_alone(program, vectorized, alone, tmp_path):
    told = dict.fromkeys(GROUP, 0)

    def on_steps(run, count):
        told[run] += count

    results = execute(GROUP, program, vectorized, tmp_path, on_steps=on_steps)
    assert {name: r["status"] for name, r in results.items()} == {r.name: "done" for r in GROUP}
    assert set(told.values()) == {44}
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)
        assert records.read_json(RunFolder(tmp_path, run.name).result) == results[run.name]
    assert not list(tmp_path.rglob("lock"))
    # Another ell is data to the same program.
    traces = program.stacked_loop.num_traces
    others = [dataclasses.replace(run, ell=1.0) for run in GROUP]
    execute(others, program, vectorized, tmp_path)
    assert program.stacked_loop.num_traces == traces
    weights = [
        checkpoints.read(RunFolder(tmp_path, r.name).checkpoint, ["model"])[0] for r in GROUP
    ]
    assert not np.allclose(weights[0]["model"][0], weights[1]["model"][0], rtol=0.1)


@needs_jax
@pytest.mark.slow
def test_convolutions_batch_norm_and_augmentation(dataset, tmp_path):
    images = dataclasses.replace(
        dataset.subset(200, 50),
        train_x=dataset.train_x[:200, :, :, None],
        train_y=dataset.train_y[:200],
        test_x=dataset.test_x[:50, :, :, None],
        test_y=dataset.test_y[:50],
        augmentation=PadCropFlip(padding=1, flip=False),
    )
    model = {"name": "preresnet", "depth": 8, "width": 0.25, "norm": "batch"}
    config = validate_config(study_config(model=model, epochs=0.5, num_records=3))
    program = Program(config, images, batch_size=16)
    group = [Run(16, program.learning_rate, 2.0, seed, program.total) for seed in (0, 1)]
    # By itself such a network does not go in groups, not on an accelerator either.
    assert execute(group, program, config, tmp_path / "group") == {}
    vectorized = config | {"vectorize_seeds": True}
    assert len(execute(group, program, vectorized, tmp_path / "group")) == 2
    for run in group:
        execute_alone(run, program, config, tmp_path / "alone")
        assert run.steps == 12
        assert_same_rows(tmp_path / "group", tmp_path / "alone", run, 1e-4, examples=32)


# Interruption.


@needs_jax
def test_sigterm_saves_all_at_one_step_and_each_goes_on_alone_or_together(
    program, vectorized, alone, tmp_path, monkeypatch, watched
):
    monkeypatch.setattr(type(program), "steps_per_piece", 3)
    told = []

    def on_steps(run, count):
        told.append((run.seed, count))
        if len(told) == 13:  # of the first of three runs, in the middle of a piece
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(preemption.PreemptedError):
        execute(GROUP, program, vectorized, tmp_path, on_steps=on_steps)
    preemption._requested.clear()
    taken = [sum(count for seed, count in told if seed == run.seed) for run in GROUP]
    folders = [RunFolder(tmp_path, run.name) for run in GROUP]
    steps = [checkpoints.load(folder.checkpoints, [])[1]["step"] for folder in folders]
    assert steps == taken == [taken[0]] * 3 and 0 < taken[0] < 44
    assert not any(folder.result.exists() or folder.lock.exists() for folder in folders)
    execute_alone(GROUP[0], program, vectorized, tmp_path)
    resumed = []
    results = execute(
        GROUP, program, vectorized, tmp_path, on_steps=lambda run, n: resumed.append((run.seed, n))
    )
    assert results.keys() == {run.name for run in GROUP[1:]}
    assert resumed[:2] == [(1, taken[0]), (2, taken[0])]
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)


@needs_jax
def test_run_at_another_step_is_left_for_later(program, vectorized, alone, tmp_path, monkeypatch):
    # Killed when the first run has its checkpoint of record 6 and the others still that of 3.
    save, calls = checkpoints.save, []

    def fail_fifth(*args, **kwargs):
        calls.append(args)
        if len(calls) == 5:
            raise Interrupted
        save(*args, **kwargs)

    monkeypatch.setattr(checkpoints, "save", fail_fifth)
    with pytest.raises(Interrupted):
        execute(GROUP, program, vectorized, tmp_path)
    told = []
    results = execute(
        GROUP, program, vectorized, tmp_path, on_steps=lambda run, n: told.append((run.seed, n))
    )
    assert told[:2] == [(1, 14), (2, 14)] and {seed for seed, _ in told} == {1, 2}
    assert results.keys() == {run.name for run in GROUP[1:]}
    assert not RunFolder(tmp_path, GROUP[0].name).result.exists()
    execute_alone(GROUP[0], program, vectorized, tmp_path)
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)


@needs_jax
def test_one_that_diverges_fails_alone(program, config, dataset, tmp_path):
    # Four steps; an image of nan that the second run reads in its third step, the others never.
    group = [Run(128, 3.2, 1.0, seed, 4) for seed in range(3)]
    config = config | {"num_records": 4, "num_checkpoints": 4, "vectorize_seeds": True}
    rows = [program.draw(runs._stream_seed(config, run), 0, 4)[0] for run in group]
    early = set(rows[0].ravel()) | set(rows[2].ravel()) | set(rows[1][:2].ravel())
    index = min(set(rows[1][2].ravel()) - early)
    poisoned = dataclasses.replace(dataset, train_x=dataset.train_x.copy())
    poisoned.train_x[index] = np.nan
    program = Program(config | {"evaluation_size": 1}, poisoned, 128)
    results = execute(group, program, config, tmp_path / "group")
    for run in group:
        alone = execute_alone(run, program, config, tmp_path / "alone")
        got = results[run.name]
        assert got.pop("seconds") > 0 and alone.pop("seconds") > 0 and got == alone
        assert_same_rows(tmp_path / "group", tmp_path / "alone", run, examples=1)
    assert [results[run.name]["status"] for run in group] == ["done", "failed", "done"]
    assert results[group[1].name]["failed_step"] == 2
    folder = RunFolder(tmp_path / "group", group[1].name)
    assert checkpoints.load(folder.checkpoints, [])[1]["step"] == 2


# What goes in groups.


def test_groups_differ_in_the_seed_alone():
    base = Run(8, 0.2, 2.0, 0, 50)
    seeds = [dataclasses.replace(base, seed=seed) for seed in range(3)]
    gaussian = [dataclasses.replace(run, method=runs.GAUSSIAN) for run in seeds]
    changes = ({"ell": 1.0}, {"learning_rate": 0.1}, {"batch_size": 16}, {"total": 51})
    others = [dataclasses.replace(base, **change) for change in changes]
    assert groups_of([*gaussian, *seeds, *others]) == [seeds]
    pair = [dataclasses.replace(others[0], seed=seed) for seed in (0, 5)]
    assert groups_of([seeds[0], pair[0], seeds[1], pair[1]]) == [seeds[:2], pair]


def refuse_program():
    raise AssertionError("there is no group to do")


@needs_jax
def test_finished_and_locked_runs_stay_out(program, vectorized, alone, tmp_path):
    assert execute_group(GROUP, refuse_program, vectorized, alone) == {}
    with lock.hold(RunFolder(tmp_path, GROUP[0].name).lock):
        two = GROUP[:2]
        assert execute_group(two, refuse_program, vectorized, tmp_path) == {}
        assert not RunFolder(tmp_path, two[1].name).lock.exists()
        results = execute(GROUP, program, vectorized, tmp_path)
    assert results.keys() == {run.name for run in GROUP[1:]}


@pytest.mark.parametrize(
    ("wanted", "workers", "device", "strategy", "expected"),
    [
        (None, 0, "gpu:0", False, True),
        (None, 1, "gpu:0", False, True),
        (None, 2, "gpu:0", False, False),
        (None, 0, "gpu:0", True, False),
        (None, 0, "cpu:0", False, False),
        (False, 0, "gpu:0", False, False),
        (True, 0, "cpu:0", False, True),
    ],
)
@needs_jax
def test_only_accelerators_do_so_unasked(monkeypatch, wanted, workers, device, strategy, expected):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: [device])
    monkeypatch.setattr(groups, "is_distributed", lambda: strategy)
    assert is_vectorized({"vectorize_seeds": wanted}, workers) is expected
    if wanted is None:
        assert is_vectorized({}, workers) is expected


@pytest.mark.requires_tensorflow
def test_tensorflow_does_not(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert not is_vectorized({"vectorize_seeds": None}, 1)


@needs_jax
def test_pool_does_groups_first_and_the_rest_one_by_one(program, vectorized, tmp_path, monkeypatch):
    monkeypatch.setitem(pool.PROGRAMS, runs.SVAG, lambda *_: program)
    single = []
    execute_one = runs._execute
    monkeypatch.setattr(
        runs, "_execute", lambda run, *rest: (single.append(run), execute_one(run, *rest))[1]
    )
    lonely = Run(128, 3.2, 1.0, 0, 22)
    grid = [lonely, *GROUP[:2]]
    steps = dict.fromkeys(grid, 0)

    def on_steps(run, count):
        steps[run] += count

    with pool.RunPool(vectorized, digits, tmp_path, num_workers=0) as workers:
        results = workers.execute(grid, on_steps)
        assert workers.execute(grid, lambda run, count: None) == results
    assert single == [lonely] and steps == {run: run.steps for run in grid}
    assert [results[run.name]["status"] for run in grid] == ["done"] * 3


@needs_jax
def test_no_room_for_all_at_once(program, vectorized, alone, tmp_path, monkeypatch):
    monkeypatch.setitem(pool.PROGRAMS, runs.SVAG, lambda *_: program)
    run_loop, calls = program.stacked_loop.run, []

    def fail_at_sixth(*args, **kwargs):
        calls.append(1)
        if len(calls) == 6:
            raise MemoryError("the device has no room")
        return run_loop(*args, **kwargs)

    monkeypatch.setattr(program.stacked_loop, "run", fail_at_sixth)
    steps = dict.fromkeys(GROUP, 0)

    def on_steps(run, count):
        steps[run] += count

    with pool.RunPool(vectorized, digits, tmp_path, num_workers=1) as workers:
        with pytest.warns(UserWarning, match="3 runs go on one by one .* no room.*=False"):
            workers.execute(GROUP, on_steps)
    # The checkpoint is that of record 3; what came after it was trained and told again.
    assert set(steps.values()) == {44}
    for run in GROUP:
        assert_same_end(tmp_path, alone, run)


# The field of the config.


@needs_jax
def test_config_on_jax(monkeypatch):
    for value in (None, False, True):
        assert validate_config(study_config(vectorize_seeds=value))["vectorize_seeds"] is value
    config = study_config()
    del config["vectorize_seeds"]
    assert validate_config(config)["vectorize_seeds"] is None
    with pytest.raises(ValueError, match="several processes.*vectorize_seeds=True, num_workers=2"):
        validate_config(study_config(vectorize_seeds=True, num_workers=2))
    monkeypatch.setattr("keras_svag.study.config.is_distributed", lambda: True)
    with pytest.raises(ValueError, match="under a strategy.*Received.*--strategy=none"):
        validate_config(study_config(vectorize_seeds=True))
    validate_config(study_config(vectorize_seeds=None))


@pytest.mark.parametrize("value", [1, "yes", 0.0, []], ids=str)
def test_config_of_another_kind(value):
    with pytest.raises(ValueError, match="`vectorize_seeds` must be True, False, or None.*Rec"):
        validate_config(study_config(vectorize_seeds=value))


@pytest.mark.requires_tensorflow
def test_config_on_tensorflow():
    for value in (None, False):
        assert validate_config(study_config(vectorize_seeds=value))["vectorize_seeds"] is value
    with pytest.raises(ValueError, match="on tensorflow, which.*Received.*KERAS_BACKEND=jax"):
        validate_config(study_config(vectorize_seeds=True))
