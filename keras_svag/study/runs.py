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

from keras_svag.coefficients import svag_steps
from keras_svag.study import checkpoints, lock, preemption, records
from keras_svag.study.tensorboard import EventLog

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
    result = _finished(run, config, folder)
    if result is None:
        with lock.hold(folder.lock) as held:
            if not held:
                return {"status": LOCKED}
            # Another process may have finished it just now.
            result = _finished(run, config, folder)
            if result is None:
                return _execute(run, get_program(), config, folder, on_steps)
    on_steps(run.steps)
    return result


def _execute(run, program, config, folder, on_steps):
    records.remove_temporaries(folder.path)
    started = time.perf_counter()
    result = {**dataclasses.asdict(run), "name": run.name, "status": DONE}
    try:
        _train(run, program, config, folder, on_steps)
    except TrainingDivergedError as error:
        result |= {"status": FAILED, "failed_step": error.step, "message": str(error)}
    result["seconds"] = round(time.perf_counter() - started, 3)
    records.write_json(folder.result, result)
    if result["status"] == DONE:
        checkpoints.prune(folder.checkpoints)
    return result


def _finished(run, config, folder):
    """What stands in `result.json`, or `None` if there is none or the records are not whole."""
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


def _train(run, program, config, folder, on_steps):
    seed = _stream_seed(config, run)
    identity = {**dataclasses.asdict(run), "stream": seed}
    points = run.record_points(config["num_records"])
    ends = [run.steps_until(point) for point in points]
    saves = _checkpoint_steps(run, points, config)
    program.start(run.ell, config["seed"] + run.seed)
    rows, step = _resume(program, folder, identity)
    clock = rows[-1]["time"] if rows else 0.0
    on_steps(step)
    log = EventLog(folder.tensorboard, rows, _hyperparameters(run, config))
    while step < run.steps:
        index = len(rows)
        start, stop = (ends[index - 1] if index else 0), ends[index]
        next_save = saves[bisect.bisect(saves, step)]
        # Pieces are counted from the start of the record, wherever the run was resumed.
        piece = program.steps_per_piece
        end = min(stop, next_save, step + piece - (step - start) % piece)
        # The logs are means since the record before, in however many pieces.
        taken, logs = program.advance(*program.draw(seed, step, end), fresh=step == start)
        weight_norm = program.weight_norm()
        is_preempted = preemption.requested()
        if not (math.isfinite(logs["loss"]) and math.isfinite(weight_norm)):
            records.write_jsonl(folder.metrics, rows)
            raise TrainingDivergedError(run.name, step + taken - 1)
        if end == stop:
            rates = program.learning_rates(run.ell, start, stop)
            clock += float(rates.sum()) / run.ell
            rows.append(
                {
                    "step": stop,
                    "effective_step": points[index],
                    "time": clock,
                    "learning_rate": float(rates[-1]),
                    **logs,
                    "weight_norm": weight_norm,
                    "weight_function": program.weight_function(),
                    **program.evaluate(),
                }
            )
            log.append(rows[-1])
        on_steps(end - step)
        step = end
        if end == next_save or is_preempted:
            _save(program, folder, rows, step, identity)
        if is_preempted and step < run.steps:
            raise preemption.PreemptedError()


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


def window_means(rows, total, window):
    """Means of a run over part of its length.

    N, G and the running loss and accuracy are means over all steps of the window; R and the
    evaluations are means over its records.

    Args:
        rows: rows of `metrics.jsonl`.
        total: effective steps of the run.
        window: tuple of two fractions of the run.

    Returns:
        A dict from the name of a column to a float, or an empty one if no record lies inside.
    """
    lengths = lengths_inside([row["effective_step"] for row in rows], total, window)
    inside = [(row, length) for row, length in zip(rows, lengths) if length]
    if not inside:
        return {}
    weights = [length for _, length in inside]
    return {
        name: float(np.average([_number(row[name]) for row, _ in inside], weights=weights))
        for name in rows[0]
        if name not in ("step", "effective_step", "time", "noise_to_signal")
    }


def lengths_inside(points, total, window):
    """Lengths of the records that lie inside a window of a run, 0 for the others.

    Args:
        points: effective steps at which records end.
        total: effective steps of the run.
        window: tuple of two fractions of the run.

    Returns:
        A list of numbers.
    """
    # Rounded, so that a fraction k/total is step k.
    first, last = (round(fraction * total, 6) for fraction in window)
    # Records end on whole effective steps, the window need not: hence the 1.
    return [
        end - start if start > first - 1 and end < last + 1 else 0
        for start, end in zip([0, *points[:-1]], points)
    ]


def _number(value):
    return math.nan if value is None else value
