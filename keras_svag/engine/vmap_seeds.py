"""Runs that differ in their seed alone, side by side in one vectorised program (JAX has them).

Each run keeps files of its own, the same as if it were alone, so that a run begun in a group can go
on alone and the other way round. A group is at one step: a run that is finished, that stands at
another step than most or that another process is at stays out of it.
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

SMALLEST_GROUP = 2


def should_vectorize(wanted, num_workers):
    """Whether runs go in groups.

    Args:
        wanted: True, False, or `None`: only on an accelerator.
        num_workers: number of processes that was asked for; 0 if none was.

    Raises:
        ValueError: if it is wanted and cannot be.
    """
    if wanted is None:
        can = VmappedTrainLoop is not None and not is_distributed() and num_workers <= 1
        return can and has_accelerator()
    if not isinstance(wanted, bool):
        raise ValueError(
            "`vectorize_seeds` must be True, False, or None for accelerators only. "
            f"Received: vectorize_seeds={wanted!r}"
        )
    if wanted:
        _check_possible(num_workers)
    return wanted


def _check_possible(num_workers):
    if VmappedTrainLoop is None:
        raise ValueError(
            f"`vectorize_seeds` must be None or False on {keras.backend.backend()}, which cannot "
            "vectorize a train step. Received: vectorize_seeds=True. Use KERAS_BACKEND=jax and "
            "another --workdir, or leave it out."
        )
    if is_distributed():
        raise ValueError(
            "`vectorize_seeds` must be None or False under a strategy, which gives each run all "
            "devices. Received: vectorize_seeds=True. Use --strategy=none, or leave it out."
        )
    if num_workers > 1:
        raise ValueError(
            "`vectorize_seeds` must be None or False with several processes: one program does "
            f"all seeds. Received: vectorize_seeds=True, num_workers={num_workers}. Set "
            "--config.num_workers=1, or leave it out."
        )


def group_by_seed(grid):
    """Sorts runs by what they share: all but the seed.

    Args:
        grid: list of `RunSpec`.

    Returns:
        A list of lists of `RunSpec`, in the order of their first ones: those that one program can
        do side by side.
    """
    groups = {}
    for run in grid:
        if run.method == SVAG:
            groups.setdefault(dataclasses.replace(run, seed=0), []).append(run)
    return [group for group in groups.values() if len(group) >= SMALLEST_GROUP]


def execute_group(
    group, get_program, recording, workdir, on_steps=lambda run, steps: None, wanted=False
):
    """Trains runs side by side to their end, as far as they can go together.

    Args:
        group: list of `RunSpec` that differ in their seed alone.
        get_program: function that returns their `CompiledTraining`; called only if there is
            something to do.
        recording: the `Recording`.
        workdir: folder of the study.
        on_steps: called with a run and the number of its steps just taken (or found taken).
        wanted: whether the user asked for groups; otherwise convolutions stay out of them.

    Returns:
        A dict from run name to the dict of `execution.execute`, for those runs that were in the
        group; the others are to be done one by one.

    Raises:
        CheckpointError: if a run's checkpoint is of another run or model.
        PreemptedError: after checkpoints, if the process was asked to end.
        WriteError: if a file cannot be written.
    """
    with contextlib.ExitStack() as locks:
        group = [run for run in group if _is_free(run, recording, workdir, locks)]
        if len(group) < SMALLEST_GROUP:
            return {}
        program = get_program()
        if not wanted and has_convolutions(program.model):
            # With kernels of their own they become grouped convolutions, slow on accelerators.
            return {}
        trainings = [
            RunState(
                run,
                program,
                recording,
                RunFolder(workdir, run.name),
                functools.partial(on_steps, run),
            )
            for run in group
        ]
        try:
            trainings = _align(trainings, program.vmapped_loop)
            return _train(trainings, program) if trainings else {}
        finally:
            program.vmapped_loop.release()


def _is_free(run, recording, workdir, locks):
    """Whether a run is to be done and this process may do it, as then only it may."""
    folder = RunFolder(workdir, run.name)
    if execution.find_result(run, recording, folder) is not None:
        return False
    held = locks.enter_context(lock.acquire(folder.lock))
    # Another process may have finished it just now.
    return held and execution.find_result(run, recording, folder) is None


def _align(trainings, loop):
    """Those that stand at the same step, which become the members of the loop."""
    members = []
    for training in trainings:
        training.resume()
        members.append(loop.values())
    steps = collections.Counter(training.step for training in trainings)
    (step, count), *_ = steps.most_common(1)
    if count < SMALLEST_GROUP:
        return []
    loop.stack([values for values, t in zip(members, trainings) if t.step == step])
    together = [training for training in trainings if training.step == step]
    for training in together:
        training.begin()
    return together


def _train(trainings, program):
    results = {}
    started = time.perf_counter()

    def finish(training, error=None):
        seconds = (time.perf_counter() - started) / len(trainings)
        run = training.spec
        results[run.name] = execution.finish(run, training.folder, seconds, error)

    going = dict(enumerate(trainings))
    while going and not _any(going).is_done:
        try:
            draws = _draw(going, len(trainings))
            outcomes = program.vmapped_loop.run(*draws, reset_metrics=_any(going).starts_record)
        except MemoryError as error:
            _abandon(going.values(), error)
            return results
        # Asked once, so that all have a checkpoint at the same step.
        is_preempted = preemption.is_requested()
        for place, training in list(going.items()):
            program.vmapped_loop.select(place)
            try:
                training.record(*outcomes[place], save=is_preempted)
            except TrainingDivergedError as error:
                finish(training, error)
                del going[place]
        if is_preempted and going and not _any(going).is_done:
            raise preemption.PreemptedError()
    for training in going.values():
        finish(training)
    return results


def _any(going):
    """One of those that are at the same step."""
    return next(iter(going.values()))


def _draw(going, members):
    """What each member draws for its next steps, side by side on the second axis."""
    pieces = {place: training.draw() for place, training in going.items()}
    # A run that has failed keeps its place there, and does what another one does.
    other = next(iter(pieces.values()))
    columns = [pieces.get(place, other) for place in range(members)]
    return map_arrays(lambda *arrays: np.stack(arrays, axis=1), *columns)


def _abandon(trainings, error):
    warnings.warn(
        f"{len(trainings)} runs go on one by one from their last checkpoints: {error}. Use "
        "--config.vectorize_seeds=False to do so from the start.",
        stacklevel=3,
    )
    for training in trainings:
        training.on_steps(-training.step)  # those that are taken will be told anew
