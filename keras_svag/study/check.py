"""The SDE-validity study of a user's own model and data, in one call."""

import base64
import dataclasses
import functools
import html
import pathlib
import tempfile

import keras
import matplotlib
import numpy as np

from keras_svag import validity
from keras_svag._checks import finite_float, positive_int
from keras_svag.coefficients import validate_ell
from keras_svag.datasets import Sampler
from keras_svag.datasets.dataset import TrainingArrays
from keras_svag.datasets.sampling import WITH_REPLACEMENT
from keras_svag.optimizers.registry import live_config, svag_version
from keras_svag.study import figures, runs
from keras_svag.study.grid import (
    END_COLUMNS,
    announce_cost,
    check_records,
    execute_grid,
    network_properties,
    summarize_runs,
)
from keras_svag.study.program import Program
from keras_svag.study.sde_validity import build_grid, build_verdict, format_table

EQUILIBRIUM = (0.4, 0.8)
NUM_RECORDS = 40


@dataclasses.dataclass(frozen=True)
class Examples(TrainingArrays):
    """A user's arrays, as far as a `Program` needs a data set.

    Attributes:
        train_x: array of n inputs.
        train_y: array of n targets.
        test_x: array of inputs, or `None`.
        test_y: array of targets, or `None`.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray | None = None
    test_y: np.ndarray | None = None
    augmentation = normalization = None


class UserProgram(Program):
    """The `Program` of a user's network, optimizer and loss.

    Args:
        config: as for `Program`; only lengths, sampling and records are used.
        examples: `Examples`.
        batch_size: B.
        model_fn: function of a seed that returns a network.
        optimizer: an SVAG optimizer.
        losses: dict with `loss` and `metrics`, as for `compile`.
    """

    def __init__(self, config, examples, batch_size, model_fn, optimizer, losses):
        self._model_fn, self._optimizer, self._given_losses = model_fn, optimizer, losses
        super().__init__(config, examples, batch_size)

    def _build_schedule(self):
        return live_config(self._optimizer)["learning_rate"]

    def _build_optimizer(self, schedule):
        return self._optimizer

    def _build_network(self, seed):
        network = self._model_fn(seed)
        if not network.built:
            network(self._dataset.train_x[:1])
        return network

    def _losses(self):
        return self._given_losses

    def evaluate(self):
        """As `Program` does; what there is not, such as test data, is NaN."""
        return {**dict.fromkeys(END_COLUMNS, float("nan")), **super().evaluate()}


class OneProgram:
    """Stands for `RunPool` where all runs are of one program, in this process.

    Args:
        program: the `Program`.
        config: its config.
        workdir: folder for records.
    """

    def __init__(self, program, config, workdir):
        self._arguments = (lambda: program, config, workdir)

    def execute(self, grid, on_steps):
        """Executes the runs of a grid, one after the other: see `RunPool.execute`."""
        return {
            run.name: runs.execute(run, *self._arguments, functools.partial(on_steps, run))
            for run in grid
        }


@dataclasses.dataclass(frozen=True, repr=False)
class SDECheck:
    """Whether the SDE models a training run, with what that rests on; a notebook shows it all.

    Attributes:
        verdict: `"valid"`, `"invalid"` or `"inconclusive"`.
        reason: what follows "SGD" in a sentence; for "inconclusive" with what would settle it.
        ratios: dict from `weight_norm`, `gradient_noise` and `gradient_signal` to the `Interval` of
            the ratio of the run to its SDE; empty where there is nothing to compare.
        necessary_condition: dict, see `keras_svag.validity.sde_condition`.
        scale_invariant: whether the network is, on which that condition rests.
        table: list of dicts, a row per run.
        settings: list of dicts, for each ell the `Interval` of each quantity over seeds.
        images: dict from file name to the bytes of a PNG file.
    """

    verdict: str
    reason: str
    ratios: dict
    necessary_condition: dict
    scale_invariant: bool
    table: list
    settings: list
    images: dict
    _details: dict
    _config: dict

    def __repr__(self):
        return format_table(self._details)

    def _repr_html_(self):
        pictures = "".join(
            f'<p><img alt="{html.escape(name)}" style="max-width: 100%" '
            f'src="data:image/png;base64,{base64.b64encode(data).decode()}"></p>'
            for name, data in self.images.items()
        )
        sentence = html.escape(f"{self.verdict}: SGD {self.reason}")
        return f"<p><b>{sentence}</b></p><pre>{html.escape(repr(self))}</pre>{pictures}"

    def plot(self):
        """Means over the window against 1/ell, from SGD to its SDE.

        Returns:
            A `matplotlib.figure.Figure`.
        """
        with matplotlib.rc_context(figures.STYLE):
            return figures._draw_convergence(self.table, self._config)


def check_sde(
    model_fn,
    optimizer,
    loss,
    train_data,
    ells=(1, 2, 4),
    seeds=3,
    batch_size=32,
    epochs=10,
    metrics=("accuracy",),
    test_data=None,
    closeness=validity.DEFAULT_CLOSENESS,
    window=EQUILIBRIUM,
    sampling=WITH_REPLACEMENT,
    num_records=NUM_RECORDS,
    seed=0,
    show_progress=True,
):
    """Is the SDE a valid model of this training? SGD against SVAG at growing amplification.

    Trains the model with each `ell` and seed, extrapolates SVAG to the SDE, and judges whether R, N
    and G of SGD, averaged over `window`, are within a factor `closeness` of it, as the study
    `keras_svag.study.run_sde_validity` does (Li, Malladi, Arora 2021, arXiv 2102.12470). One
    program is compiled; all runs are made in this process and leave no files. The cost is
    `2 * seeds * sum(ells)` times that of the SGD run.

    With Adam, AdamW and RMSprop the SDE is that of Malladi et al. (arXiv 2205.10287), whose
    preconditioner is the noise alone: `ell=1` differs from it by O(G/N) in each coordinate even
    where the method is right. With batch norm the loss itself depends on the batch size.

    Args:
        model_fn: function of an int seed that returns a new `keras.Model` with the initial weights
            of that seed (`keras.utils.set_random_seed(seed)` first, then build).
        optimizer: an instance of a Keras SGD, Adam, AdamW or RMSprop, or of an SVAG version: that
            of the run in question. A schedule counts its steps. It is not changed.
        loss: as for `compile`.
        train_data: tuple `(x, y)` of arrays.
        ells: amplifications, 1 and at least two more. Defaults to `(1, 2, 4)`.
        seeds: number of seeds, at least 2. Defaults to `3`.
        batch_size: B of the run in question; a step of these runs reads 2B. Defaults to `32`.
        epochs: length of the run in question, a number > 0. Defaults to `10`.
        metrics: as for `compile`. Defaults to `("accuracy",)`.
        test_data: tuple `(x, y)` to evaluate on, or `None`. Defaults to `None`.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        window: two fractions of the run, over which N, G and R are averaged. Defaults to
            `(0.4, 0.8)`.
        sampling: one of `keras_svag.datasets.SAMPLING_MODES`. Defaults to `"with_replacement"`.
        num_records: rows recorded of each run. Defaults to `40`.
        seed: int >= 0, of all seeds. Defaults to `0`.
        show_progress: whether to show a progress bar. Defaults to `True`.

    Returns:
        An `SDECheck`, with `verdict`, `reason`, `ratios`, `table` and `plot()`.

    Raises:
        ValueError: if an argument is out of range, or the optimizer has no SVAG version.

    Example:

    >>> def model_fn(seed):
    ...     keras.utils.set_random_seed(seed)
    ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> result = check_sde(
    ...     model_fn, keras.optimizers.SGD(0.01), "mse", (x, x[:, :1]), batch_size=8, epochs=2,
    ...     metrics=(), num_records=8, show_progress=False,
    ... )
    >>> result.verdict in ("valid", "invalid", "inconclusive")
    True
    """
    ells = _check_ells(ells)
    examples = Examples(*_arrays("train_data", train_data), *_arrays("test_data", test_data))
    svag = svag_version(optimizer)
    config = {
        "seed": positive_int("seed", seed, minimum=0),
        "epochs": finite_float("epochs", epochs, "a number > 0", 0.0, exclusive=True),
        "base_batch_size": positive_int("batch_size", batch_size),
        "num_records": positive_int("num_records", num_records),
        "num_seeds": positive_int("seeds", seeds, minimum=2),
        "max_num_seeds": seeds,
        "num_checkpoints": 1,
        "evaluation_size": 0,
        "sampling": sampling,
        "equilibrium": window,
        "closeness": validity.validate_closeness(closeness),
        "weight_decay": svag.weight_decay or 0.0,
        "learning_rate": float(svag.learning_rate),
        "optimizer": _fields_of(svag),
        "sde_validity": {"batch_sizes": [batch_size], "ells": ells},
    }
    Sampler(examples.num_train, batch_size, sampling)
    grid = build_grid(config, examples.num_train)
    check_records(config, grid)
    program = UserProgram(
        config, examples, batch_size, model_fn, svag, {"loss": loss, "metrics": list(metrics)}
    )
    network = network_properties(program.model, examples)
    with tempfile.TemporaryDirectory() as workdir:
        workdir = pathlib.Path(workdir)
        announce_cost(grid, examples.num_train, workdir, show_progress)
        pool = OneProgram(program, config, workdir)
        results = execute_grid(pool, grid, examples.num_train, workdir, show_progress)
        table = summarize_runs(grid, results, config, examples.num_train, workdir)
        details = build_verdict(table, config, network)
        drawn = figures.draw_sde_validity(workdir, table, details, config)
        images = {entry["title"]: (workdir / entry["file"]).read_bytes() for entry in drawn}
    (only,) = details["verdicts"]
    return SDECheck(
        verdict=only["verdict"],
        reason=only["reason"],
        ratios=only["ratios"],
        necessary_condition=only["necessary_condition"],
        scale_invariant=network["scale_invariant"],
        table=table,
        settings=details["settings"],
        images=images,
        _details=details,
        _config=config,
    )


def _fields_of(optimizer):
    """The `optimizer` part of a config, as far as the grid and the verdict read it."""
    momentum = getattr(optimizer, "momentum", None)
    return {"name": type(optimizer).__name__, **({"momentum": momentum} if momentum else {})}


def _check_ells(ells):
    ells = sorted({validate_ell(ell) for ell in ells})
    if 1.0 not in ells or len([ell for ell in ells if ell > 1]) < 2:
        raise ValueError(
            "`ells` must hold 1, which is the run itself, and at least two larger numbers, to "
            f"extrapolate to the SDE from. Received: ells={ells}"
        )
    return ells


def _arrays(name, data):
    if data is None and name == "test_data":
        return None, None
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise ValueError(
            f"`{name}` must be a tuple (x, y) of arrays. Received: {name} of {type(data)}"
        )
    x, y = (np.asarray(array) for array in data)
    if not len(x) or len(x) != len(y):
        raise ValueError(
            f"`{name}` must be two arrays with as many examples. Received: x of shape {x.shape}, "
            f"y of shape {y.shape}"
        )
    for array in (x, y):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))
            raise ValueError(
                f"`{name}` must hold finite numbers. Received: {len(bad)} examples with NaN or "
                f"infinity, the first at {bad[0]}. Leave them out."
            )
    # As `fit` does.
    return (a.astype(keras.config.floatx()) if a.dtype.kind == "f" else a for a in (x, y))
