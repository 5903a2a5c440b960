"""The runs of a study: each is trained, recorded and checkpointed by itself.

`runs/<name>/metrics.jsonl` holds a row per record, `tensorboard/` the same as scalars,
`checkpoint/` the state at the last two checkpoints and `result.json` the end. A run that was
interrupted goes on from its checkpoint and ends with the same rows as if it had not been, since its
batches are a function of seed and step. While a process is at a run it holds the run's lock.
"""

import bisect
import dataclasses
import math
import pathlib
import time
import warnings

import numpy as np

from keras_svag.study import checkpoints, lock, preemption, records
from keras_svag.study.tensorboard import EventLog
from keras_svag.theory import svag_steps

# LOCKED is no result: another process is at the run.
DONE, FAILED, LOCKED = "done", "failed", "locked"
SVAG, GAUSSIAN = "svag", "gaussian"
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


@dataclasses.dataclass(frozen=True)
class Run:
    """One cell of the grid.

    Attributes:
        batch_size: B, examples in one half.
        learning_rate: eta at the start, of the SGD run that is modelled.
        ell: amplification.
        seed: decides initial weights and batches.
        total: length in effective steps.
        method: `"svag"`, or `"gaussian"` for full-batch steps with Gaussian noise, of which there
            are `ell` in an effective step (1: noisy gradient descent; many: the SDE itself).
    """

    batch_size: int
    learning_rate: float
    ell: float
    seed: int
    total: int
    method: str = SVAG

    @property
    def name(self):
        """Folder name, such as `b8_ell2_seed0`."""
        kind = "ell" if self.method == SVAG else "gauss"
        return f"b{self.batch_size}_{kind}{self.ell:.12g}_seed{self.seed}"

    def gradient_evaluations(self, num_train):
        """Cost of the run in gradients of batches of B examples."""
        return round(self.examples_per_step(num_train) * self.steps / self.batch_size)

    def examples_per_step(self, num_train):
        """Gradients of single examples in a step: two batches, or the whole training set."""
        return 2 * self.batch_size if self.method == SVAG else num_train

    @property
    def steps(self):
        """Number of SVAG steps."""
        return self.steps_until(self.total)

    def steps_until(self, effective_step):
        """Number of SVAG steps up to an effective step >= 1; at least one, also where ell < 1."""
        return max(1, svag_steps(effective_step, self.ell))

    def record_points(self, count):
        """Effective steps at which a row is recorded: `count` of them, evenly spaced.

        Args:
            count: wanted number of rows; fewer where the run is shorter.

        Returns:
            An increasing list of ints that ends with `total`, no two of them at the same step.
        """
        count = min(count, self.total)
        points = {max(1, round(i * self.total / count)) for i in range(1, count + 1)}
        # Where ell < 1 several points can fall on one step, of which the last stays.
        return sorted({self.steps_until(point): point for point in sorted(points)}.values())


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


def execute(run, get_program, config, workdir, on_steps=lambda steps: None):
    """Trains a run to its end, or goes on with it, or returns its result if it is finished.

    Args:
        run: the `Run`.
        get_program: function that returns the `Program` of its batch size; called only if there
            is something to do.
        config: a validated config.
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
    folder = RunFolder(workdir, run.name)
    result = find_result(run, config, folder)
    if result is None:
        with lock.hold(folder.lock) as held:
            if not held:
                return {"status": LOCKED}
            # Another process may have finished it just now.
            result = find_result(run, config, folder)
            if result is None:
                return _execute(run, get_program(), config, folder, on_steps)
    on_steps(run.steps)
    return result


def _execute(run, program, config, folder, on_steps):
    started = time.perf_counter()
    error = None
    try:
        _train(Training(run, program, config, folder, on_steps), program)
    except TrainingDivergedError as diverged:
        error = diverged
    return finish(run, folder, time.perf_counter() - started, error)


def finish(run, folder, seconds, error=None):
    """Writes the result of a run that has come to its end.

    Args:
        run: the `Run`.
        folder: its `RunFolder`.
        seconds: float, what it took.
        error: the `TrainingDivergedError` that ended it. Defaults to `None`: it is done.

    Returns:
        The dict that stands in `result.json`.

    Raises:
        WriteError: if a file cannot be written.
    """
    result = {**dataclasses.asdict(run), "name": run.name, "status": DONE}
    if error is not None:
        result |= {"status": FAILED, "failed_step": error.step, "message": str(error)}
    result["seconds"] = round(seconds, 3)
    records.write_json(folder.result, result)
    if result["status"] == DONE:
        checkpoints.prune(folder.checkpoints)
    return result


def find_result(run, config, folder):
    """What stands in `result.json`, or `None` if there is none or the records are not whole.

    Args:
        run: the `Run`.
        config: a validated config.
        folder: its `RunFolder`.

    Returns:
        A dict, or `None`.
    """
    result = records.read_json(folder.result)
    if result is None or result["status"] != DONE:
        return result
    try:
        num_rows = len(records.read_jsonl(folder.metrics))
    except records.DamagedError:
        num_rows = -1
    if num_rows == len(run.record_points(config["num_records"])):
        return result
    warnings.warn(
        f"`{folder.metrics}` is damaged or incomplete. It is written anew from the run's last "
        "checkpoint; what is not there is trained again.",
        stacklevel=3,
    )
    return None


def _train(training, program):
    training.resume()
    training.begin()
    while not training.is_done:
        # The logs are means since the record before, in however many pieces.
        taken, logs = program.advance(*training.draw(), fresh=training.is_fresh)
        is_preempted = preemption.requested()
        training.record(taken, logs, is_preempted)
        if is_preempted and not training.is_done:
            raise preemption.PreemptedError()


class Training:
    """A run on its way: which steps come next, its rows so far, and what it writes.

    Call `resume` and `begin`; then, until it `is_done`, let the program take the steps of `draw`
    (with metrics that begin anew if it `is_fresh`) and `record` what came of them.

    Args:
        run: the `Run`.
        program: the `Program`; it must stand where the run is when `record` is called.
        config: a validated config.
        folder: the `RunFolder`.
        on_steps: called with the number of SVAG steps just taken (or found taken).
    """

    def __init__(self, run, program, config, folder, on_steps):
        self.run, self.folder, self.on_steps = run, folder, on_steps
        self._program, self._config = program, config
        self._seed = _stream_seed(config, run)
        self._identity = {**dataclasses.asdict(run), "stream": self._seed}
        self._points = run.record_points(config["num_records"])
        self._ends = [run.steps_until(point) for point in self._points]
        self._saves = _checkpoint_steps(run, self._points, config)

    def resume(self):
        """Puts the program at the run's last checkpoint, or else at its beginning.

        Raises:
            CheckpointError: if the checkpoint is of another run or model.
        """
        records.remove_temporaries(self.folder.path)
        self._program.start(self.run.ell, self._config["seed"] + self.run.seed)
        self._rows, self.step = _resume(self._program, self.folder, self._identity)

    def begin(self):
        """Tells of the steps that were found taken, and opens the event log."""
        self._clock = self._rows[-1]["time"] if self._rows else 0.0
        self.on_steps(self.step)
        hyperparameters = _hyperparameters(self.run, self._config)
        self._log = EventLog(self.folder.tensorboard, self._rows, hyperparameters)

    @property
    def is_done(self):
        """Whether all steps are taken."""
        return self.step >= self.run.steps

    @property
    def is_fresh(self):
        """Whether a record begins here."""
        return self.step == self._record_start

    @property
    def _record_start(self):
        return self._ends[len(self._rows) - 1] if self._rows else 0

    @property
    def _next_save(self):
        return self._saves[bisect.bisect(self._saves, self.step)]

    @property
    def _piece_end(self):
        # Pieces are counted from the start of the record, wherever the run was resumed.
        piece = self._program.steps_per_piece
        end = self.step + piece - (self.step - self._record_start) % piece
        return min(self._ends[len(self._rows)], self._next_save, end)

    def draw(self):
        """The randomness of the steps that come next, at most up to the next record or checkpoint.

        Returns:
            A tuple: the arguments of the program's `advance`.
        """
        return self._program.draw(self._seed, self.step, self._piece_end)

    def record(self, taken, logs, save=False):
        """Takes note of the steps of `draw`; writes a row and a checkpoint if it is time.

        Args:
            taken: int, number of steps taken.
            logs: dict of their means since the row before.
            save: whether to write a checkpoint in any case. Defaults to `False`.

        Raises:
            TrainingDivergedError: if the loss or the weights are no longer finite.
            WriteError: if a file cannot be written.
        """
        weight_norm = self._program.weight_norm()
        if not (math.isfinite(logs["loss"]) and math.isfinite(weight_norm)):
            records.write_jsonl(self.folder.metrics, self._rows)
            raise TrainingDivergedError(self.run.name, self.step + taken - 1)
        start, end, next_save = self.step, self._piece_end, self._next_save
        if end == self._ends[len(self._rows)]:
            self._add_row(logs, weight_norm)
        self.on_steps(end - start)
        self.step = end
        if end == next_save or save:
            _save(self._program, self.folder, self._rows, self.step, self._identity)

    def _add_row(self, logs, weight_norm):
        index, stop = len(self._rows), self._ends[len(self._rows)]
        rates = self._program.learning_rates(self.run.ell, self._record_start, stop)
        self._clock += float(rates.sum()) / self.run.ell
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


def _checkpoint_steps(run, points, config):
    """The steps after which a checkpoint is written, in order; the last step is one of them."""
    every = config.get("checkpoint_steps")
    if every is None:
        stride = math.ceil(len(points) / config["num_checkpoints"])
        effective = points[stride - 1 :: stride]
    else:
        effective = range(every, run.total, every)
    return sorted({run.steps, *map(run.steps_until, effective)})


def _hyperparameters(run, config):
    """What TensorBoard shows beside the scalars; without the seed, so that seeds are a group."""
    return {
        "batch_size": run.batch_size,
        "effective_steps": run.total,
        "ell": run.ell,
        "learning_rate": run.learning_rate,
        "method": run.method,
        "optimizer": config["optimizer"]["name"],
        "weight_decay": config["weight_decay"],
    }


def restore_last(run, program, workdir):
    """Puts a program where a finished run ended.

    Args:
        run: a finished `Run`.
        program: the `Program` of its batch size.
        workdir: folder of the study.

    Raises:
        DamagedError: if its checkpoint is not there or not as it was written.
    """
    path = RunFolder(workdir, run.name).checkpoint
    try:
        state, _ = checkpoints.read(path, STATE_GROUPS)
    except records.DamagedError as error:
        raise records.DamagedError(
            f"{error} Move the folder of the run away: the same command then trains it again."
        ) from error
    checkpoints.check_state(path, state, program.state())
    program.restore(state)


def _stream_seed(config, run):
    """Seed of the batches: another one for each run, so that runs are independent."""
    identity = [config["seed"], run.seed, run.batch_size, round(run.ell * 2**16)]
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
