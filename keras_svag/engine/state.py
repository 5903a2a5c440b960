"""The state of a run in progress: which steps come next, its rows so far, and what it writes.

`runs/<name>/metrics.jsonl` holds a row per record, `tensorboard/` the same as scalars,
`checkpoint/` the state at the last two checkpoints and `result.json` the end. A run that was
interrupted goes on from its checkpoint and ends with the same rows as if it had not been, since its
batches are a function of seed and step.
"""

import bisect
import dataclasses
import math
import pathlib

import numpy as np

from keras_svag.engine.files import checkpoints, records
from keras_svag.engine.files.tensorboard import EventLog

STATE_GROUPS = ("model", "optimizer", "metrics")


class TrainingDivergedError(RuntimeError):
    """Raised when a run's loss or weights stop being finite.

    Args:
        run: name of the run.
        step: the SVAG step at fault, counted from 0.
    """

    def __init__(self, run, step):
        self.run, self.step = run, step
        super().__init__(
            f"Run {run}: the loss or the weights were no longer finite after step {step}. Lower "
            "`learning_rate`; the records and the checkpoint before it, if any, are kept."
        )


class RunFolder:
    """The files of one run.

    Args:
        workdir: folder of the study.
        name: name of the run.
    """

    def __init__(self, workdir, name):
        self.path = pathlib.Path(workdir) / "runs" / name
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoint"
        self.checkpoint = self.checkpoints / checkpoints.LATEST
        self.result = self.path / "result.json"
        self.tensorboard = self.path / "tensorboard"
        self.lock = self.path / "lock"


class RunState:
    """A run in progress: which steps come next, its rows so far, and what it writes.

    Call `resume` and `begin`; then, until it `is_done`, let the program take the steps of `draw`
    (with reset metrics if it `starts_record`) and `record` what came of them.

    Args:
        spec: the `RunSpec`.
        program: the `CompiledTraining`; it must stand where the run is when `record` is called.
        recording: the `Recording`.
        folder: the `RunFolder`.
        on_steps: called with the number of SVAG steps just taken (or found taken).
    """

    def __init__(self, spec, program, recording, folder, on_steps):
        self.spec, self.folder, self.on_steps = spec, folder, on_steps
        self._program, self._recording = program, recording
        self._seed = _stream_seed(recording.seed, spec)
        self._identity = {**dataclasses.asdict(spec), "stream": self._seed}
        self._points = recording.points(spec)
        self._ends = [spec.steps_until(point) for point in self._points]
        self._saves = recording.checkpoints(spec)

    def resume(self):
        """Puts the program at the run's last checkpoint, or else at its beginning.

        Raises:
            CheckpointError: if the checkpoint is of another run or model.
        """
        records.remove_temporaries(self.folder.path)
        self._program.start(self.spec.ell, self._recording.seed + self.spec.seed)
        self._rows, self.step = _resume(self._program, self.folder, self._identity)

    def begin(self):
        """Tells of the steps that were found taken, and opens the event log."""
        self._clock = self._rows[-1]["time"] if self._rows else 0.0
        self.on_steps(self.step)
        hyperparameters = _hyperparameters(self.spec, self._program.recipe.facts)
        self._log = EventLog(self.folder.tensorboard, self._rows, hyperparameters)

    @property
    def is_done(self):
        """Whether all steps are taken."""
        return self.step >= self.spec.steps

    @property
    def starts_record(self):
        """Whether a record begins here."""
        return self.step == self._record_start

    @property
    def _record_start(self):
        return self._ends[len(self._rows) - 1] if self._rows else 0

    @property
    def _next_save(self):
        return self._saves[bisect.bisect(self._saves, self.step)]

    @property
    def _segment_end(self):
        # Pieces are counted from the start of the record, wherever the run was resumed.
        piece = self._program.steps_per_segment
        end = self.step + piece - (self.step - self._record_start) % piece
        return min(self._ends[len(self._rows)], self._next_save, end)

    def draw(self):
        """The randomness of the steps that come next, at most up to the next record or checkpoint.

        Returns:
            A tuple: the arguments of the program's `advance`.
        """
        return self._program.draw(self._seed, self.step, self._segment_end)

    def record(self, steps_done, logs, save=False):
        """Takes note of the steps of `draw`; writes a row and a checkpoint if it is time.

        Args:
            steps_done: int, number of steps taken.
            logs: dict of their means since the row before.
            save: whether to write a checkpoint in any case. Defaults to `False`.

        Raises:
            TrainingDivergedError: if the loss or the weights are no longer finite.
            WriteError: if a file cannot be written.
        """
        weight_norm = self._program.weight_norm()
        if not (math.isfinite(logs["loss"]) and math.isfinite(weight_norm)):
            records.write_jsonl(self.folder.metrics, self._rows)
            raise TrainingDivergedError(self.spec.name, self.step + steps_done - 1)
        start, end, next_save = self.step, self._segment_end, self._next_save
        if end == self._ends[len(self._rows)]:
            self._add_row(logs, weight_norm)
        self.on_steps(end - start)
        self.step = end
        if end == next_save or save:
            _save(self._program, self.folder, self._rows, self.step, self._identity)

    def _add_row(self, logs, weight_norm):
        index, stop = len(self._rows), self._ends[len(self._rows)]
        rates = self._program.learning_rates(self.spec.ell, self._record_start, stop)
        self._clock += float(rates.sum()) / self.spec.ell
        row = {
            "step": stop,
            "effective_step": self._points[index],
            "time": self._clock,
            "learning_rate": float(rates[-1]),
            **logs,
            "weight_norm": weight_norm,
            "weight_function": self._program.weight_function(),
            **self._program.evaluate(),
        }
        self._rows.append(row)
        self._log.append(row)


def _hyperparameters(spec, facts):
    """What TensorBoard shows beside the scalars; without the seed, so that seeds are a group."""
    return {
        "batch_size": spec.batch_size,
        "effective_steps": spec.total,
        "ell": spec.ell,
        "learning_rate": spec.learning_rate,
        "method": spec.method,
        "optimizer": facts.optimizer,
        "weight_decay": facts.weight_decay,
    }


def restore_last(spec, program, workdir):
    """Puts a program where a finished run ended.

    Args:
        spec: a finished `RunSpec`.
        program: the `CompiledTraining` of its batch size.
        workdir: folder of the study.

    Raises:
        DamagedError: if its checkpoint is not there or not as it was written.
    """
    path = RunFolder(workdir, spec.name).checkpoint
    try:
        state, _ = checkpoints.read(path, STATE_GROUPS)
    except records.DamagedError as error:
        raise records.DamagedError(
            f"{error} Move the folder of the run away: the same command then trains it again."
        ) from error
    checkpoints.check_state(path, state, program.state())
    program.restore(state)


def _stream_seed(seed, spec):
    """Seed of the batches: another one for each run, so that runs are independent."""
    identity = [seed, spec.seed, spec.batch_size, round(spec.ell * 2**16)]
    return int(np.random.SeedSequence(identity).generate_state(1, np.uint64)[0])


def _save(program, folder, rows, step, identity):
    # Rows first: nobody finds a checkpoint whose rows are not there.
    records.write_jsonl(folder.metrics, rows)
    facts = {"run": identity, "step": step, "rows": rows}
    checkpoints.save(folder.checkpoints, program.state(), **facts)


def _resume(program, folder, identity):
    """Rows and step of the last checkpoint, to which the program is put."""
    loaded = checkpoints.load(folder.checkpoints, STATE_GROUPS)
    if loaded is None:
        return [], 0
    state, facts = loaded
    path = folder.checkpoint
    for name, value in identity.items():
        if facts["run"].get(name) != value:
            raise checkpoints.refused(
                path, f"its {name} is {facts['run'].get(name)!r}, that of this run {value!r}"
            )
    checkpoints.check_state(path, state, program.state())
    program.restore(state)
    records.write_jsonl(folder.metrics, facts["rows"])
    return facts["rows"], facts["step"]
