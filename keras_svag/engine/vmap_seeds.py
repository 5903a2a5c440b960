"""Runs that differ only in their seed, trained together in one vectorized program (JAX only).

Each run keeps its own files, as if it were alone, so it can join or leave a group between sessions.
The runs of a group share one step counter: runs that are finished, at another step, or locked by
another process stay out.
"""

import collections
import contextlib
import dataclasses
import functools
import time
import warnings

import keras
import numpy as np

from keras_svag.device_loop import VmappedTrainLoop
from keras_svag.distribution import is_distributed
from keras_svag.engine import execution
from keras_svag.engine.files import lock
from keras_svag.engine.processes import preemption
from keras_svag.engine.spec import SVAG
from keras_svag.engine.state import RunFolder, RunState, TrainingDivergedError
from keras_svag.trainer.structures import map_arrays
from keras_svag.xla_policy import has_accelerator, has_convolutions

MIN_GROUP_SIZE = 2


def should_vectorize(vectorize_seeds, num_workers):
    """Resolves `vectorize_seeds`: `None` means on accelerators only."""
    if vectorize_seeds is None:
        is_possible = VmappedTrainLoop is not None and not is_distributed() and num_workers <= 1
        return is_possible and has_accelerator()
    if not isinstance(vectorize_seeds, bool):
        raise ValueError(
            "`vectorize_seeds` must be True, False, or None for accelerators only. "
            f"Received: vectorize_seeds={vectorize_seeds!r}"
        )
    if vectorize_seeds:
        _check_possible(num_workers)
    return vectorize_seeds


def _check_possible(num_workers):
    if VmappedTrainLoop is None:
        raise ValueError(
            f"`vectorize_seeds` must be None or False on {keras.backend.backend()}, which cannot "
            "vectorize a train step. Received: vectorize_seeds=True. Leave it out, or use "
            "KERAS_BACKEND=jax and another --workdir."
        )
    if is_distributed():
        raise ValueError(
            "`vectorize_seeds` must be None or False under a strategy, which gives each run all "
            "devices. Received: vectorize_seeds=True. Leave it out, or use --strategy=none."
        )
    if num_workers > 1:
        raise ValueError(
            "`vectorize_seeds` must be None or False with several workers, since one program "
            f"trains all seeds. Received: vectorize_seeds=True, num_workers={num_workers}. Leave "
            "it out, or set --config.num_workers=1."
        )


def group_by_seed(grid):
    """Groups SVAG runs that differ only in their seed, in grid order."""
    groups = {}
    for run in grid:
        if run.program[0] == SVAG:
            groups.setdefault(dataclasses.replace(run, seed=0), []).append(run)
    return [group for group in groups.values() if len(group) >= MIN_GROUP_SIZE]


def execute_group(
    group,
    get_program,
    recording,
    workdir,
    on_steps=lambda run, steps: None,
    with_convolutions=True,
):
    """Trains runs together; returns the results of those that could be, by run name."""
    with contextlib.ExitStack() as locks:
        group = [run for run in group if _lock_unfinished(run, recording, workdir, locks)]
        if len(group) < MIN_GROUP_SIZE:
            return {}
        program = get_program()
        # With one kernel per seed they become grouped convolutions, slow on accelerators.
        if not with_convolutions and has_convolutions(program.model):
            return {}
        run_states = []
        for run in group:
            folder, report = RunFolder(workdir, run.name), functools.partial(on_steps, run)
            run_states.append(RunState(run, program, recording, folder, report))
        try:
            run_states = _stack_largest(run_states, program.vmapped_loop)
            return _train(run_states, program.vmapped_loop) if run_states else {}
        finally:
            program.vmapped_loop.release()


def _lock_unfinished(run, recording, workdir, locks):
    """Locks a run; returns True if it got the lock and the run can be trained and is not yet."""
    folder = RunFolder(workdir, run.name)
    if execution.find_result(run, recording, folder) is not None:
        return False
    if not execution.can_start(run, recording, folder):
        return False
    held = locks.enter_context(lock.acquire(folder.lock))
    # Again, under the lock: another process may just have finished it.
    return held and execution.claim(run, recording, folder) is None


def _stack_largest(run_states, loop):
    """Stacks the runs that are at the most common step in the loop, and returns them."""
    values = []
    for state in run_states:
        state.resume()
        values.append(loop.values())
    (step, count), *_ = collections.Counter(s.step for s in run_states).most_common(1)
    if count < MIN_GROUP_SIZE:
        return []
    loop.stack([v for v, state in zip(values, run_states) if state.step == step])
    run_states = [state for state in run_states if state.step == step]
    for state in run_states:
        state.begin()
    return run_states


def _train(run_states, loop):
    results = {}
    started = time.perf_counter()

    def finish(state, error=None):
        seconds = (time.perf_counter() - started) / len(run_states)
        results[state.spec.name] = execution.finish(state, seconds, error)
        execution.release(state.folder)

    # By index in the loop, where a diverged run keeps its slot.
    active = dict(enumerate(run_states))
    while active:
        first = next(iter(active.values()))  # all are at the same step
        if first.is_done:
            break
        try:
            draws = _draw(active, len(run_states))
            outcomes = loop.run(*draws, reset_metrics=first.starts_record)
        except MemoryError as error:
            _warn_of_memory(active.values(), error)
            return results
        # Asked once, so that all save a checkpoint at the same step.
        signum = preemption.requested_signal()
        for index, state in list(active.items()):
            loop.select(index)
            try:
                state.record(*outcomes[index], save=bool(signum))
            except TrainingDivergedError as error:
                finish(state, error)
                del active[index]
        if signum and not all(state.is_done for state in active.values()):
            raise preemption.PreemptedError(signum)
    for state in active.values():
        finish(state)
    return results


def _draw(active, num_runs):
    """Draws the next segment of each run, stacked along the second axis."""
    draws = {index: state.draw() for index, state in active.items()}
    # The slot of a diverged run repeats the draws of another.
    other = next(iter(draws.values()))
    columns = [draws.get(index, other) for index in range(num_runs)]
    return map_arrays(lambda *arrays: np.stack(arrays, axis=1), *columns)


def _warn_of_memory(run_states, error):
    warnings.warn(
        f"Out of memory with {len(run_states)} seeds in one program; they resume one by one from "
        f"their last checkpoints: {error}. Use --config.vectorize_seeds=False to train them one "
        "by one from the start.",
        stacklevel=3,
    )
    for state in run_states:
        state.on_steps(-state.step)  # to be counted again when the runs resume
