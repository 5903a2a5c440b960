"""Helpers of the tests of the engine."""

import copy

import numpy as np

from keras_svag.datasets import Sampler
from keras_svag.engine import execution
from keras_svag.engine.files import checkpoints, records
from keras_svag.engine.state import STATE_GROUPS, RunFolder, _stream_seed


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle of a run."""


def interrupt_after(count):
    """An `on_steps` that raises `Interrupted` at its call number `count` (0 is the start)."""
    calls = iter(range(count + 1))

    def on_steps(_):
        if next(calls) == count:
            raise Interrupted

    return on_steps


def execute(spec, program, recording, workdir, **options):
    """Executes a run on a program that is there already, in a folder as a study makes it."""
    workdir.mkdir(exist_ok=True)
    return execution.execute(spec, lambda: program, recording, workdir, **options)


def refuse_program():
    """Stands for a function that compiles, where nothing is to be done."""
    raise AssertionError("a finished run asked for its program")


def rows_of(spec, recipe, recording):
    """The examples of all steps of a run."""
    seed = _stream_seed(recording.seed, spec)
    sampler = Sampler(recipe.num_train, spec.batch_size, recipe.sampling, seed)
    return sampler.rows(0, spec.steps)


def with_nan(recipe, index):
    """The recipe with one training image of nan, with which no recipe is made."""
    x, y = recipe.train_data
    x = x.copy()
    x[index] = np.nan
    changed = copy.copy(recipe)
    changed.train_data = (x, y)
    return changed


def saved_step(workdir, spec):
    """Step of the newest checkpoint of a run; `None` if it has none."""
    loaded = checkpoints.load(RunFolder(workdir, spec.name).checkpoints, [])
    return loaded and loaded[1]["step"]


def assert_same_end(workdir, expected, spec):
    """Same records to the byte, same weights and optimizer to the bit."""
    got, wanted = (RunFolder(folder, spec.name) for folder in (workdir, expected))
    assert got.metrics.read_bytes() == wanted.metrics.read_bytes()
    with np.load(got.checkpoint) as a, np.load(wanted.checkpoint) as b:
        assert sorted(a.files) == sorted(b.files)
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert records.read_sealed(got.result)["status"] == execution.DONE


def final_state(workdir, spec):
    """Arrays and facts of the last checkpoint of a run."""
    return checkpoints.read(RunFolder(workdir, spec.name).checkpoint, STATE_GROUPS)
