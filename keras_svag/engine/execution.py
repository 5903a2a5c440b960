"""Execution of one run: train it, resume it, or return its stored result."""

import contextlib
import time
import warnings

from keras_svag.engine.files import lock, records, results, storage
from keras_svag.engine.files.results import DONE, FAILED, LOCKED
from keras_svag.engine.processes import preemption
from keras_svag.engine.state import RunFolder, RunState, TrainingDivergedError

__all__ = ["DONE", "FAILED", "LOCKED", "claim", "execute", "find_result", "finish"]


def execute(spec, get_program, recording, workdir, on_steps=lambda steps: None):
    """Returns the content of the run's `result.json`, training or resuming the run if needed."""
    folder = RunFolder(workdir, spec.name)
    result = find_result(spec, recording, folder)
    if result is None:
        with lock.acquire(folder.lock) as held:
            if not held:
                return {"status": LOCKED}
            # Again, under the lock: another process may just have finished it.
            result = claim(spec, recording, folder)
            is_new = result is None
            if is_new:
                result = _execute(spec, get_program(), recording, folder, on_steps)
            release(folder)
            if is_new:
                return result
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
