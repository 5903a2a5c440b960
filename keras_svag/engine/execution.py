"""Executes one run: trains it to its end, resumes it, or returns its result."""

import dataclasses
import time
import warnings

from keras_svag.engine.files import checkpoints, lock, records
from keras_svag.engine.processes import preemption
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder, RunState, TrainingDivergedError

# LOCKED is no result: another process is at the run.
DONE, FAILED, LOCKED = "done", "failed", "locked"


def execute(spec, get_program, recording, workdir, on_steps=lambda steps: None):
    """Trains a run to its end, or goes on with it, or returns its result if it is finished.

    Args:
        spec: the `RunSpec`.
        get_program: function that returns the `CompiledTraining` of its batch size; called only if
            there is something to do.
        recording: the `Recording`.
        workdir: folder of the study.
        on_steps: called with the number of SVAG steps just taken (or found taken).

    Returns:
        The dict that stands in `result.json`: `status` is `"done"` or `"failed"`. Or, if another
        process is at this run, a dict with the status `"locked"` alone.

    Raises:
        CheckpointError: if the run's checkpoint is of another run or model.
        PreemptedError: after a checkpoint, if the process was asked to end.
        WriteError: if a file cannot be written.
    """
    folder = RunFolder(workdir, spec.name)
    result = find_result(spec, recording, folder)
    if result is None:
        with lock.acquire(folder.lock) as held:
            if not held:
                return {"status": LOCKED}
            # Another process may have finished it just now.
            result = find_result(spec, recording, folder)
            if result is None:
                return _execute(spec, get_program(), recording, folder, on_steps)
    on_steps(spec.steps)
    return result


def _execute(spec, program, recording, folder, on_steps):
    started = time.perf_counter()
    error = None
    try:
        _train(RunState(spec, program, recording, folder, on_steps), program)
    except TrainingDivergedError as diverged:
        error = diverged
    return finish(spec, folder, time.perf_counter() - started, error)


def finish(spec, folder, seconds, error=None):
    """Writes the result of a run that has come to its end.

    Args:
        spec: the `RunSpec`.
        folder: its `RunFolder`.
        seconds: float, what it took.
        error: the `TrainingDivergedError` that ended it. Defaults to `None`: it is done.

    Returns:
        The dict that stands in `result.json`.

    Raises:
        WriteError: if a file cannot be written.
    """
    result = {**dataclasses.asdict(spec), "name": spec.name, "status": DONE}
    if error is not None:
        result |= {"status": FAILED, "failed_step": error.step, "message": str(error)}
    result["seconds"] = round(seconds, 3)
    records.write_json(folder.result, result)
    if result["status"] == DONE:
        checkpoints.prune(folder.checkpoints)
    return result


def find_result(spec, recording, folder):
    """Reads `result.json`; `None` if there is none or the records are not whole.

    Args:
        spec: the `RunSpec`.
        recording: the `Recording`.
        folder: its `RunFolder`.

    Returns:
        A dict, or `None`.
    """
    result = read_result(folder)
    if result is None or result["status"] != DONE:
        return result
    try:
        num_rows = len(records.read_jsonl(folder.metrics))
    except records.DamagedError:
        num_rows = -1
    if num_rows == len(recording.points(spec)):
        return result
    warnings.warn(
        f"`{folder.metrics}` is damaged or incomplete. It is written anew from the run's last "
        "checkpoint; what is not there is trained again.",
        stacklevel=3,
    )
    return None


def read_result(folder):
    """The content of a run's `result.json`; `None` if there is none.

    Raises:
        DamagedError: if it is no result.
    """
    result = records.read_json(folder.result)
    if result is None:
        return None
    names = {"status", "seconds", *(field.name for field in dataclasses.fields(RunSpec))}
    if not isinstance(result, dict) or not names <= result.keys():
        raise records.damaged(folder.result, "it is not the result of a run")
    return result


def _train(state, program):
    state.resume()
    state.begin()
    while not state.is_done:
        # The logs are means since the record before, in however many pieces.
        steps_done, logs = program.advance(*state.draw(), reset_metrics=state.starts_record)
        is_preempted = preemption.is_requested()
        state.record(steps_done, logs, is_preempted)
        if is_preempted and not state.is_done:
            raise preemption.PreemptedError()
