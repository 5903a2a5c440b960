"""Studies in one function call, for notebooks: `check_sde` and `check_linear_scaling`."""

import pathlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_svag._checks import as_list, finite_float
from keras_svag.recipe import Recipe
from keras_svag.studies.base.result import Result
from keras_svag.studies.linear_scaling import LinearScaling
from keras_svag.studies.sde_validity import SDEValidity
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.sampling_modes import WITH_REPLACEMENT

NUM_RECORDS = 40


def check_sde(
    model_fn: Callable[[int], keras.Model],
    optimizer: keras.optimizers.Optimizer,
    loss: Any,
    train_data: Any,
    ells: Sequence[float] = (1, 2, 4, 8),
    num_seeds: int = 3,
    batch_size: int = 32,
    epochs: float = 10,
    metrics: Sequence = ("accuracy",),
    test_data: Any = None,
    closeness: float = DEFAULT_CLOSENESS,
    window: tuple[float, float] = (0.4, 0.8),
    sampling: str = WITH_REPLACEMENT,
    num_records: int = NUM_RECORDS,
    seed: int = 0,
    workdir: str | pathlib.Path | None = None,
    num_workers: int = 1,
    show_progress: bool = True,
    criteria: Mapping[str, Mapping[str, float]] | None = None,
    executor: Any = None,
) -> Result:
    """Tests if the SDE is a valid model of a training run: `SDEValidity` in one call.

    Args:
        model_fn: Function of an int seed that returns a new `keras.Model` with the initial weights
            of that seed (call `keras.utils.set_random_seed(seed)` first).
        optimizer: Keras SGD, Adam, AdamW or RMSprop, or an SVAG version of one, with the
            hyperparameters of the run. It is not modified.
        loss: Loss, see `keras.Model.compile`.
        train_data: Tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or of structures of arrays.
        ells: Amplifications: 1 and at least three larger ones. Defaults to `(1, 2, 4, 8)`.
        num_seeds: Number of seeds, at least 2. Defaults to `3`.
        batch_size: Batch size B of the run. Defaults to `32`.
        epochs: Length of the run, a number > 0. Defaults to `10`.
        metrics: Metrics, see `keras.Model.compile`. Defaults to `("accuracy",)`.
        test_data: Data to evaluate on, in the form of `train_data`. Defaults to `None`.
        closeness: Factor C within which two quantities agree, a float > 1. Defaults to `sqrt(2)`.
        window: Start and end of the window over which N, G and R are averaged, as fractions of the
            run. Defaults to `(0.4, 0.8)`.
        sampling: One of `keras_svag.datasets.SAMPLING_MODES`. Defaults to `"with_replacement"`.
        num_records: Number of rows to record per run. Defaults to `40`.
        seed: Seed that all other seeds are derived from, an int >= 0. Defaults to `0`.
        workdir: Folder for all files; the same call on the same folder resumes. Defaults to `None`,
            a temporary folder that is deleted with the result.
        num_workers: Number of processes; 0 means one per core. Defaults to `1`.
        show_progress: Whether to show a progress bar. Defaults to `True`.
        criteria: Further quantities that must agree: see `SDEValidity`. Defaults to `None`.
        executor: Executes each run by a call, see `SDEValidity.run`; needs a `workdir` that its
            processes see. Defaults to `None`.

    Returns:
        A `keras_svag.studies.Result` with `verdict`, `reason`, `table` and `plot()`.

    Raises:
        ValueError: If an argument is out of range, or the optimizer has no SVAG version.

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
    recipe = Recipe(
        model_fn, train_data, optimizer, loss, batch_size, epochs, test_data, metrics,
        sampling=sampling,
    )  # fmt: skip
    study = SDEValidity(
        recipe,
        ells=ells,
        num_seeds=num_seeds,
        max_num_seeds=num_seeds,
        criteria=criteria,
        max_ell=1.0,  # as many runs as the caller asked for
        closeness=closeness,
        window=window,
        num_records=num_records,
        num_checkpoints=1,
        seed=seed,
    )
    if len([ell for ell in study.ells if ell > 1]) < 3 or study.num_seeds < 2:
        raise ValueError(
            "`ells` must hold 1, plain SGD, and at least three larger numbers, from which the SDE "
            "is extrapolated and checked, and `num_seeds` must be at least 2. "
            f"Received: ells={ells}, num_seeds={num_seeds}"
        )
    return _run(study, workdir, num_workers, show_progress, executor)


def check_linear_scaling(
    model_fn: Callable[[int], keras.Model],
    optimizer: keras.optimizers.Optimizer,
    loss: Any,
    train_data: Any,
    kappas: Sequence[float] = (1, 2, 4, 8),
    num_seeds: int = 3,
    batch_size: int = 32,
    epochs: float = 10,
    metrics: Sequence = ("accuracy",),
    test_data: Any = None,
    closeness: float = DEFAULT_CLOSENESS,
    window: tuple[float, float] = (0.4, 0.8),
    sampling: str = WITH_REPLACEMENT,
    rule: str = "auto",
    num_records: int = NUM_RECORDS,
    seed: int = 0,
    workdir: str | pathlib.Path | None = None,
    num_workers: int = 1,
    show_progress: bool = True,
    executor: Any = None,
) -> Result:
    """Tests how far a batch size can be scaled: `LinearScaling` in one call.

    Args:
        model_fn: Function of an int seed that returns a new model, see `check_sde`.
        optimizer: Optimizer with the hyperparameters of the run at `batch_size`.
        loss: Loss, see `keras.Model.compile`.
        train_data: Training data, see `check_sde`.
        kappas: Factors on the batch size to try. Defaults to `(1, 2, 4, 8)`.
        num_seeds: Number of seeds, at least 2. Defaults to `3`.
        batch_size: Base batch size B. Defaults to `32`.
        epochs: Length of the runs, a number > 0. Defaults to `10`.
        metrics: Metrics, see `keras.Model.compile`. Defaults to `("accuracy",)`.
        test_data: Data to evaluate on. Defaults to `None`.
        closeness: Factor C, a float > 1. Defaults to `sqrt(2)`.
        window: Window of the averages if no equilibrium is found. Defaults to `(0.4, 0.8)`.
        sampling: One of `keras_svag.datasets.SAMPLING_MODES`. Defaults to `"with_replacement"`.
        rule: Scaling rule, see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        num_records: Number of rows to record per run. Defaults to `40`.
        seed: Seed that all other seeds are derived from. Defaults to `0`.
        workdir: Folder for all files. Defaults to `None`, a temporary one, see `check_sde`.
        num_workers: Number of processes; 0 means one per core. Defaults to `1`.
        show_progress: Whether to show a progress bar. Defaults to `True`.
        executor: Executes each run by a call, see `check_sde`. Defaults to `None`.

    Returns:
        A `keras_svag.studies.Result`. `details["observed_max_kappa"]` is the answer, and
        `details["predicted_max_kappa"]` the prediction from the base runs alone.

    Raises:
        ValueError: If an argument is out of range, or the optimizer has no scaling rule.

    Example:

    >>> def model_fn(seed):
    ...     keras.utils.set_random_seed(seed)
    ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> result = check_linear_scaling(
    ...     model_fn, keras.optimizers.SGD(0.01), "mse", (x, x[:, :1]), kappas=(1, 2),
    ...     batch_size=8, epochs=4, metrics=(), num_records=8, show_progress=False,
    ... )
    >>> sorted(result.details["observed_max_kappa"])
    ['first_failure', 'inconclusive', 'value']
    """
    recipe = Recipe(
        model_fn, train_data, optimizer, loss, batch_size, epochs, test_data, metrics,
        sampling=sampling, rule=rule,
    )  # fmt: skip
    study = LinearScaling(
        recipe,
        batch_sizes=[_scaled(batch_size, kappa) for kappa in as_list(kappas)],
        num_seeds=num_seeds,
        closeness=closeness,
        window=window,
        num_records=num_records,
        num_checkpoints=1,
        seed=seed,
    )
    return _run(study, workdir, num_workers, show_progress, executor)


def _scaled(batch_size, kappa):
    kappa = finite_float("kappas", kappa, "numbers > 0", 0.0, exclusive=True)
    return round(batch_size * kappa)


def _run(study, workdir, num_workers, show_progress, executor):
    if workdir is not None:
        return study.run(workdir, num_workers, show_progress=show_progress, executor=executor)
    if executor is not None:
        raise ValueError(
            "`workdir` must be given with an executor: a folder that its processes see. "
            "Received: workdir=None"
        )
    folder = tempfile.TemporaryDirectory(prefix="keras_svag_")
    result = study.run(folder.name, num_workers, show_progress=show_progress)
    result.keep_alive = folder  # deleted with the result
    return result
