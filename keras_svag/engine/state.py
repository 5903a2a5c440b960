"""State of a run in progress, and its files.

`runs/<name>/` holds `metrics.jsonl` with a row per record, `tensorboard/` with the same scalars,
`checkpoint/` with the last two checkpoints, and finally `result.json`. Batches are a function of
seed and step, so an interrupted run resumes from its checkpoint to the same rows.
"""

import bisect
import dataclasses
import math

import keras
import numpy as np

from keras_svag.engine.files import checkpoints, records, storage
from keras_svag.engine.files.tensorboard import EventLog
from keras_svag.engine.spec import BRANCH, SECOND_MOMENT
from keras_svag.version import backend_versions, merge_versions

STATE_GROUPS = ("model", "optimizer", "metrics")


class TrainingDivergedError(RuntimeError):
    """Raised when a run's loss or weights become NaN or infinite, at SVAG step `step`."""

    def __init__(self, run, step):
        self.run, self.step = run, step
        super().__init__(
            f"Run {run} diverged: the loss or the weights are not finite after step {step}. Lower "
            "`learning_rate`. Its records and last checkpoint are kept."
        )


class RunFolder:
    """Paths of one run's files."""

    def __init__(self, workdir, name):
        self.workdir = workdir
        self.path = workdir / "runs" / name
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoint"
        self.checkpoint = self.checkpoints / checkpoints.LATEST
        self.result = self.path / "result.json"
        self.tensorboard = self.path / "tensorboard"
        self.lock = self.path / "lock"


class RunState:
    """A run in progress: its next steps, its rows so far, and its files.

    Call `resume` and `begin`; then, until `is_done`, have the program take the steps of `draw`
    (with metrics reset if `starts_record`) and pass their number and logs to `record`. The program
    must be at this run's state when `record` is called.
    """

    def __init__(self, spec, program, recording, folder, on_steps):
        self.spec, self.folder, self.on_steps = spec, folder, on_steps
        self._program, self.recording = program, recording
        self._seed = _stream_seed(recording.seed, spec)
        self._identity = _identity(spec, recording)
        self.versions = backend_versions(keras.backend.backend())
        self._points = recording.points(spec)
        self._record_ends = [spec.steps_until(point) for point in self._points]
        self._checkpoint_steps = recording.checkpoints(spec)

    def resume(self):
        """Restores the program from the last checkpoint, or initializes it."""
        storage.remove_temporaries(self.folder.path)
        self._program.start(self.spec.ell, self.recording.seed + self.spec.seed)
        restored = self._restore()
        if restored is None and self.spec.origin is not None:
            state = last_state(self.spec.origin, self._program, self.folder.workdir, self.recording)
            self._program.branch(state, self.spec.kappa, self.spec.first_step)
        self._rows, self.step = restored or ([], 0)

    def _restore(self):
        """Restores the last checkpoint; returns its rows and step, or `None` if there is none."""
        loaded = checkpoints.load(self.folder.checkpoints, STATE_GROUPS)
        if loaded is None:
            return None
        state, facts = loaded
        path = self.folder.checkpoint
        _check_identity(path, facts["run"], self._identity)
        checkpoints.check_state(path, state, self._program.state())
        self._program.restore(state)
        self.versions = merge_versions(facts["versions"], self.versions)
        self._write_rows(facts["rows"])
        return facts["rows"], facts["step"]

    def _write_rows(self, rows, sync=False):
        """Writes rows, unless a process that shares no lock with this one has finished the run."""
        if not storage.exists(self.folder.result):
            records.write_jsonl(self.folder.metrics, rows, sync)

    def begin(self):
        """Reports the steps of the checkpoint, and opens the event log."""
        self._time = self._rows[-1]["time"] if self._rows else 0.0
        self.on_steps(self.step)
        spec, facts = self.spec, self._program.recipe.facts
        # Without the seed, so that TensorBoard groups seeds.
        hyperparameters = {
            "batch_size": spec.batch_size,
            "effective_steps": spec.total,
            "ell": spec.ell,
            "learning_rate": spec.learning_rate,
            "method": spec.method,
            "optimizer": facts.optimizer,
            "weight_decay": facts.weight_decay,
        }
        self._log = EventLog(self.folder.tensorboard, self._rows, hyperparameters)

    @property
    def is_done(self):
        """True once all steps are taken."""
        return self.step >= self.spec.steps

    @property
    def starts_record(self):
        """True if the next step is the first of a record."""
        return self.step == self._record_start

    @property
    def _record_start(self):
        return self._record_ends[len(self._rows) - 1] if self._rows else 0

    @property
    def _record_end(self):
        return self._record_ends[len(self._rows)]

    @property
    def _next_checkpoint(self):
        return self._checkpoint_steps[bisect.bisect(self._checkpoint_steps, self.step)]

    @property
    def _segment_end(self):
        # Segments are counted from the start of the record, not from where the run was resumed, so
        # that a resumed run makes the same calls and its float32 means round the same way.
        size = self._program.steps_per_segment
        end = self.step + size - (self.step - self._record_start) % size
        return min(self._record_end, self._next_checkpoint, end)

    def draw(self):
        """Draws the arguments of the program's `advance` for the next segment."""
        return self._program.draw(self._seed, self.step, self._segment_end)

    def record(self, steps_done, logs, save=False):
        """Records a segment: checks for divergence, writes a row and a checkpoint if due."""
        weight_norm = self._program.weight_norm()
        if not (math.isfinite(logs["loss"]) and math.isfinite(weight_norm)):
            self._write_rows(self._rows)
            raise TrainingDivergedError(self.spec.name, self.step + steps_done - 1)
        start, end = self.step, self._segment_end
        save = save or end == self._next_checkpoint
        if end == self._record_end:
            self._add_row(logs, weight_norm)
        self.on_steps(end - start)
        self.step = end
        if save:
            # Rows first, so that a checkpoint never exists without its rows.
            self._write_rows(self._rows, sync=self.is_done)
            facts = {"run": self._identity, "step": self.step, "rows": self._rows}
            facts["versions"] = self.versions
            checkpoints.save(self.folder.checkpoints, self._program.state(), **facts)

    @property
    def rows(self):
        """The records so far."""
        return self._rows

    def end(self):
        """Makes the event log survive a crash of the machine, and removes the older checkpoint."""
        self._log.sync()
        checkpoints.prune(self.folder.checkpoints)

    def _add_row(self, logs, weight_norm):
        start, end = (self.spec.first_step + s for s in (self._record_start, self._record_end))
        rates = self._program.learning_rates(self.spec.ell, start, end)
        self._time += float(rates.sum()) / self.spec.ell
        velocity_norm = self._program.velocity_norm()
        velocity = {} if velocity_norm is None else {"velocity_norm": velocity_norm}
        row = {
            "step": self._record_end,
            "effective_step": self._points[len(self._rows)],
            "time": self._time,
            "learning_rate": float(rates[-1]),
            **logs,
            "weight_norm": weight_norm,
            **velocity,
            "weight_function": self._program.weight_function(),
            **self._program.evaluate(),
        }
        self._rows.append(row)
        self._log.append(row)


def last_state(spec, program, workdir, recording=None):
    """Returns the state at the end of a finished run, of the study of a `recording`."""
    path = RunFolder(workdir, spec.name).checkpoint
    try:
        state, facts = checkpoints.read(path, STATE_GROUPS)
    except records.DamagedError as error:
        raise records.DamagedError(
            f"{error} Move the run's folder away, then repeat the command to retrain it."
        ) from error
    if recording is not None:
        _check_identity(path, facts["run"], _identity(spec, recording))
    checkpoints.check_state(path, state, program.state())
    return state


def _identity(spec, recording):
    """The part of a checkpoint that says which run it belongs to."""
    study = {"study": recording.identity, "stream": _stream_seed(recording.seed, spec)}
    return {**dataclasses.asdict(spec), **study}


def _check_identity(path, found, expected):
    """Raises `CheckpointError` for the checkpoint of another run."""
    for name, value in expected.items():
        if found.get(name) != value:
            raise checkpoints.mismatch(path, f"{name} {found.get(name)!r} instead of {value!r}")


def _stream_seed(seed, spec):
    """Seed of the batches, different for each run, so that runs are independent."""
    identity = [seed, spec.seed, spec.batch_size, round(spec.ell * 2**16)]
    if spec.method == SECOND_MOMENT:  # has other signs, but would share the batches of SVAG
        identity.append(1)
    if spec.method == BRANCH:  # or the branch at the base batch size would repeat its origin's
        identity += [2, spec.base_total]
    return int(np.random.SeedSequence(identity).generate_state(1, np.uint64)[0])
