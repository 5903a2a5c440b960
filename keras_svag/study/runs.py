"""The runs of a study: each is trained, recorded and checkpointed by itself.

`runs/<name>/metrics.jsonl` holds a row per record, `tensorboard/` the same as scalars,
`checkpoint/latest.npz` the state at the last checkpoint and `result.json` the end. A run that was
interrupted goes on from its checkpoint and ends with the same rows as if it had not been, since its
batches are a function of seed and step.
"""

import dataclasses
import math
import pathlib
import time

import numpy as np

from keras_svag.coefficients import svag_steps
from keras_svag.study import records
from keras_svag.study.tensorboard import EventLog

DONE, FAILED = "done", "failed"
SVAG, GAUSSIAN = "svag", "gaussian"
STATE_GROUPS = ("model", "optimizer")


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
        self.checkpoint = self.path / "checkpoint" / "latest.npz"
        self.result = self.path / "result.json"
        self.tensorboard = self.path / "tensorboard"


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
        The dict that stands in `result.json`: `status` is `"done"` or `"failed"`.
    """
    folder = RunFolder(workdir, run.name)
    result = records.read_json(folder.result)
    if result is not None:
        on_steps(run.steps)
        return result
    started = time.perf_counter()
    result = {**dataclasses.asdict(run), "name": run.name, "status": DONE}
    try:
        _train(run, get_program(), config, folder, on_steps)
    except TrainingDivergedError as error:
        result |= {"status": FAILED, "failed_step": error.step, "message": str(error)}
    result["seconds"] = round(time.perf_counter() - started, 3)
    records.write_json(folder.result, result)
    return result


def _train(run, program, config, folder, on_steps):
    seed = _stream_seed(config, run)
    points = run.record_points(config["num_records"])
    every = math.ceil(len(points) / config["num_checkpoints"])
    program.start(run.ell, config["seed"] + run.seed)
    rows = _resume(program, folder)
    clock = rows[-1]["time"] if rows else 0.0
    step = rows[-1]["step"] if rows else 0
    on_steps(step)
    log = EventLog(folder.tensorboard, rows, _hyperparameters(run, config))
    for index in range(len(rows), len(points)):
        stop = run.steps_until(points[index])
        taken, logs = program.advance(*program.draw(seed, step, stop))
        weight_norm = program.weight_norm()
        if not (math.isfinite(logs["loss"]) and math.isfinite(weight_norm)):
            records.write_jsonl(folder.metrics, rows)
            raise TrainingDivergedError(run.name, step + taken - 1)
        rates = program.learning_rates(run.ell, step, stop)
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
        on_steps(stop - step)
        step = stop
        if (index + 1) % every == 0 or index + 1 == len(points):
            _save(program, folder, rows)


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
    """
    state, _ = records.load_arrays(RunFolder(workdir, run.name).checkpoint, STATE_GROUPS)
    program.restore(state)


def _stream_seed(config, run):
    """Seed of the batches: another one for each run, so that runs are independent."""
    identity = [config["seed"], run.seed, run.batch_size, round(run.ell * 2**16)]
    return int(np.random.SeedSequence(identity).generate_state(1, np.uint64)[0])


def _save(program, folder, rows):
    # Rows first: a checkpoint never counts rows that are not there.
    records.write_jsonl(folder.metrics, rows)
    records.save_arrays(folder.checkpoint, program.state(), num_rows=len(rows))


def _resume(program, folder):
    loaded = records.load_arrays(folder.checkpoint, STATE_GROUPS)
    if loaded is None:
        return []
    state, numbers = loaded
    program.restore(state)
    return records.read_jsonl(folder.metrics)[: numbers["num_rows"]]


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
