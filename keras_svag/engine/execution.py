"""Execution of one run: train it, resume it, or return its stored result."""

import contextlib
import dataclasses
import time
import warnings

import keras

from keras_svag.distribution import check_same_on_all, max_over_processes
from keras_svag.engine.files import lock, records, results, storage
from keras_svag.engine.files.results import DONE, FAILED, LOCKED
from keras_svag.engine.processes import preemption
from keras_svag.engine.state import RunFolder, RunState, TrainingDivergedError
from keras_svag.version import backend_versions

__all__ = [
    *("DONE", "FAILED", "LOCKED"),
    *("can_start", "claim", "execute", "failed_result", "find_result", "finish"),
]


def execute(spec, get_program, recording, workdir, on_steps=lambda steps: None):
    """Returns the content of the run's `result.json`, training or resuming the run if needed."""
    folder = RunFolder(workdir, spec.name)
    if max_over_processes(lock.was_refused(folder.lock)):
        return {"status": LOCKED}
    result = find_result(spec, recording, folder)
    _check_same(spec, is_finished=result is not None)
    if result is None:
        with lock.acquire(folder.lock) as held:
            # Only the first process of a `multi_worker` job sees the lock that others may hold.
            if max_over_processes(not held):
                return {"status": LOCKED}
            # Again, under the lock: another process may just have finished it.
            result = claim(spec, recording, folder)
            is_new = result is None
            _check_same(spec, is_finished=not is_new)
            if is_new and can_start(spec, recording, folder):
                result = _execute(spec, get_program(), recording, folder, on_steps)
            elif is_new:
                result = _without_start(spec, recording, folder)
            release(folder)
            if is_new:
                return result
    on_steps(spec.steps)
    return result


def can_start(spec, recording, folder):
    """Returns False for a branch as long as the run from which it branches is not done."""
    return spec.origin is None or _status_of_origin(spec, recording, folder) == DONE


def _status_of_origin(spec, recording, folder):
    origin = RunFolder(folder.workdir, spec.origin.name)
    result = find_result(spec.origin, recording, origin)
    return None if result is None else result["status"]


def _without_start(spec, recording, folder):
    """Returns the result of a branch that cannot start."""
    name = spec.origin.name
    if _status_of_origin(spec, recording, folder) is None:  # the next call may finish it
        return failed_result(spec, f"the run {name}, from which it branches, is not finished.")
    result = failed_result(spec, f"the run {name}, from which it branches, failed.")
    versions = backend_versions(keras.backend.backend())
    shared = {"failed_step": 0, "identity": recording.identity, "versions": versions}
    return results.write(folder, spec, result | shared, [])


def _check_same(spec, **facts):
    """Raises a `ValueError` unless all processes that train together go on from the same files."""
    # Another job may have gone on with the run since the first process's folder was copied.
    check_same_on_all(f"files of run {spec.name}", lambda: facts)


def _execute(spec, program, recording, folder, on_steps):
    started, error = time.perf_counter(), None
    state = RunState(spec, program, recording, folder, on_steps)
    state.resume()
    _check_same(spec, step=state.step)
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
    return finish(state, time.perf_counter() - started, error)


def finish(state, seconds, error=None):
    """Writes and returns the result of a run that finished or, with `error`, diverged."""
    # Where there are no locks, another process may have been faster.
    found = find_result(state.spec, state.recording, state.folder)
    if found is not None:
        return found
    content = {"status": DONE, "seconds": round(seconds, 3)}
    if error is not None:
        content |= {"status": FAILED, "failed_step": error.step, "message": str(error)}
    content |= {"identity": state.recording.identity, "versions": state.versions}
    # Before the result, after which nobody tidies up.
    state.end()
    return results.write(state.folder, state.spec, content, state.rows)


def failed_result(spec, message):
    """The result, for this call only, of a run that nothing could execute."""
    return {
        **dataclasses.asdict(spec),
        "name": spec.name,
        "status": FAILED,
        "seconds": 0.0,
        "message": f"Run {spec.name}: {message}",
    }


def release(folder):
    """Removes the lock file of a finished run; the caller holds the lock."""
    with contextlib.suppress(OSError):  # on Windows, where it is open
        storage.remove(folder.lock)


def find_result(spec, recording, folder):
    """Returns the stored result, or `None` if there is none or it is damaged."""
    with contextlib.suppress(results.DamagedRunError):
        return results.read(folder, spec, recording.identity)
    return None


def claim(spec, recording, folder):
    """Returns the stored result; removes it if it is damaged. The caller holds the lock."""
    try:
        return results.read(folder, spec, recording.identity)
    except results.DamagedRunError as error:
        warnings.warn(
            f"`{error.path}` is damaged: {error.problem}. The run is restored from its last "
            "checkpoint, or trained again.",
            stacklevel=3,
        )
        # First, so that a result never stands beside fewer records.
        with records.writing(folder.result):
            storage.remove(folder.result)
        return None
