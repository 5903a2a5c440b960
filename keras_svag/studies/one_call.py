"""The studies in one call, for a notebook: `check_sde` and `check_linear_scaling`."""

import tempfile

from keras_svag.recipe import Recipe
from keras_svag.studies.linear_scaling import LinearScaling
from keras_svag.studies.sde_validity import SDEValidity
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.sampling_modes import WITH_REPLACEMENT

NUM_RECORDS = 40


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
    closeness=DEFAULT_CLOSENESS,
    window=(0.4, 0.8),
    sampling=WITH_REPLACEMENT,
    num_records=NUM_RECORDS,
    seed=0,
    workdir=None,
    num_workers=1,
    show_progress=True,
):
    """Is the SDE a valid model of this training? `keras_svag.studies.SDEValidity` in one call.

    Args:
        model_fn: function of an int seed that returns a new `keras.Model` with the initial weights
            of that seed (`keras.utils.set_random_seed(seed)` first, then build).
        optimizer: a Keras SGD, Adam, AdamW or RMSprop, or an SVAG version of one: that of the run
            in question. A schedule counts its steps. It is not changed.
        loss: as for `compile`.
        train_data: tuple `(x, y)` or `(x, y, sample_weight)` of arrays, or structures of arrays.
        ells: amplifications, 1 and at least two more. Defaults to `(1, 2, 4)`.
        seeds: number of seeds, at least 2. Defaults to `3`.
        batch_size: B of the run in question; a step of these runs reads 2B. Defaults to `32`.
        epochs: length of the run in question, a number > 0. Defaults to `10`.
        metrics: as for `compile`. Defaults to `("accuracy",)`.
        test_data: as `train_data`, to evaluate on, or `None`. Defaults to `None`.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        window: two fractions of the run, over which N, G and R are averaged. Defaults to
            `(0.4, 0.8)`.
        sampling: one of `keras_svag.datasets.SAMPLING_MODES`. Defaults to `"with_replacement"`.
        num_records: rows recorded of each run. Defaults to `40`.
        seed: int >= 0, of all seeds. Defaults to `0`.
        workdir: folder for all files, with which the same call resumes. Defaults to `None`: a
            temporary one, which lasts as long as the result.
        num_workers: number of processes; 0 means one for each core. Defaults to `1`.
        show_progress: whether to show a progress bar. Defaults to `True`.

    Returns:
        A `keras_svag.studies.Result`, with `verdict`, `reason`, `table` and `plot()`.

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
    recipe = Recipe(
        model_fn, train_data, optimizer, loss, batch_size, epochs, test_data, metrics,
        sampling=sampling,
    )  # fmt: skip
    study = SDEValidity(
        recipe,
        ells=ells,
        num_seeds=seeds,
        max_num_seeds=seeds,
        closeness=closeness,
        window=window,
        num_records=num_records,
        num_checkpoints=1,
        seed=seed,
    )
    if len([ell for ell in study.ells if ell > 1]) < 2 or study.num_seeds < 2:
        raise ValueError(
            "`ells` must hold 1, which is the run itself, and at least two larger numbers, to "
            "extrapolate to the SDE from; and `seeds` must be at least 2. "
            f"Received: ells={ells}, seeds={seeds}"
        )
    return _run(study, workdir, num_workers, show_progress)


def check_linear_scaling(
    model_fn,
    optimizer,
    loss,
    train_data,
    kappas=(1, 2, 4, 8),
    seeds=3,
    batch_size=32,
    epochs=10,
    metrics=("accuracy",),
    test_data=None,
    closeness=DEFAULT_CLOSENESS,
    window=(0.4, 0.8),
    sampling=WITH_REPLACEMENT,
    rule="auto",
    num_records=NUM_RECORDS,
    seed=0,
    workdir=None,
    num_workers=1,
    show_progress=True,
):
    """How far can this batch size be raised? `keras_svag.studies.LinearScaling` in one call.

    Args:
        model_fn: as for `check_sde`, like all arguments that are not listed here.
        optimizer: that of the run at `batch_size`.
        loss: as for `compile`.
        train_data: as for `check_sde`.
        kappas: factors on the batch size to try. Defaults to `(1, 2, 4, 8)`.
        seeds: number of seeds, at least 2. Defaults to `3`.
        batch_size: B, the base batch size. Defaults to `32`.
        epochs: length of the runs. Defaults to `10`.
        metrics: as for `compile`. Defaults to `("accuracy",)`.
        test_data: as for `check_sde`.
        closeness: C, a float > 1. Defaults to `sqrt(2)`.
        window: where averages are taken if no equilibrium is found. Defaults to `(0.4, 0.8)`.
        sampling: one of `keras_svag.datasets.SAMPLING_MODES`. Defaults to `"with_replacement"`.
        rule: how hyperparameters change with the batch size, see `keras_svag.scale_optimizer`.
            Defaults to `"auto"`.
        num_records: rows recorded of each run. Defaults to `40`.
        seed: int >= 0, of all seeds. Defaults to `0`.
        workdir: as for `check_sde`.
        num_workers: as for `check_sde`.
        show_progress: whether to show a progress bar. Defaults to `True`.

    Returns:
        A `keras_svag.studies.Result`; `details["observed_max_kappa"]` is the answer, and
        `details["predicted_max_kappa"]` what the base runs alone said.

    Raises:
        ValueError: if an argument is out of range, or the optimizer has no scaling rule.
    """
    recipe = Recipe(
        model_fn, train_data, optimizer, loss, batch_size, epochs, test_data, metrics,
        sampling=sampling, rule=rule,
    )  # fmt: skip
    study = LinearScaling(
        recipe,
        batch_sizes=[round(batch_size * kappa) for kappa in kappas],
        num_seeds=seeds,
        closeness=closeness,
        window=window,
        num_records=num_records,
        num_checkpoints=1,
        seed=seed,
    )
    return _run(study, workdir, num_workers, show_progress)


def _run(study, workdir, num_workers, show_progress):
    if workdir is not None:
        return study.run(workdir, num_workers, show_progress=show_progress)
    folder = tempfile.TemporaryDirectory(prefix="keras_svag_")
    result = study.run(folder.name, num_workers, show_progress=show_progress)
    result.keep_alive = folder  # deleted with the result
    return result
