"""Execution of one run: train it, resume it, or return its stored result."""

import contextlib
import dataclasses
import time
import warnings

from keras_svag.engine.files import checkpoints, lock, records
from keras_svag.engine.processes import preemption
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder, RunState, TrainingDivergedError

# LOCKED is not in `result.json`: another process is executing the run.
DONE, FAILED, LOCKED = "done", "failed", "locked"


def execute(spec, get_program, recording, workdir, on_steps=lambda steps: None):
    """Returns the content of the run's `result.json`, training or resuming the run if needed."""
    folder = RunFolder(workdir, spec.name)
    result = find_result(spec, recording, folder)
    if result is None:
        with lock.acquire(folder.lock) as held:
            if not held:
                return {"status": LOCKED}
            # Again, under the lock: another process may just have finished it.
            result = find_result(spec, recording, folder)
            if result is None:
                return _execute(spec, get_program(), recording, folder, on_steps)
    on_steps(spec.steps)
    return result


def _execute(spec, program, recording, folder, on_steps):
    started, error = time.perf_counter(), None
    state = RunState(spec, program, recording, folder, on_steps)
    state.resume()
    state.begin()
    try:
        while not state.is_done:
            # The logs are means since the last record, which may span several segments.
            steps_done, logs = program.advance(*state.draw(), reset_metrics=state.starts_record)
            signum = preemption.requested_signal()
            state.record(steps_done, logs, save=bool(signum))
            if signum and not state.is_done:
                raise preemption.PreemptedError(signum)
    except TrainingDivergedError as diverged:
        error = diverged
    return finish(spec, folder, time.perf_counter() - started, error)


def finish(spec, folder, seconds, error=None):
    """Writes and returns the result of a run that finished or, with `error`, diverged."""
    result = {**dataclasses.asdict(spec), "name": spec.name, "status": DONE}
    if error is not None:
        result |= {"status": FAILED, "failed_step": error.step, "message": str(error)}
    result["seconds"] = round(seconds, 3)
    records.write_json(folder.result, result)
    if result["status"] == DONE:
        checkpoints.prune(folder.checkpoints)
    return result


def find_result(spec, recording, folder):
    """Returns the stored result, or `None` if there is none or its records are incomplete."""
    result = read_result(folder)
    if result is None or result["status"] != DONE:
        return result
    with contextlib.suppress(records.DamagedError):
        if len(records.read_jsonl(folder.metrics)) == len(recording.points(spec)):
            return result
    warnings.warn(
        f"`{folder.metrics}` is damaged or incomplete. The run resumes from its last checkpoint.",
        stacklevel=3,
    )
    return None


def read_result(folder):
    """Returns the content of `result.json`, or `None` if there is none."""
    result = records.read_json(folder.result)
    if result is None:
        return None
    names = {"status", "seconds", *(field.name for field in dataclasses.fields(RunSpec))}
    if not isinstance(result, dict) or not names <= result.keys():
        raise records.damaged(folder.result, "not the result of a run")
    return result
