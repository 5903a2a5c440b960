"""Fails early: validates every run of a study before anything is written."""

from keras_svag.datasets import Sampler
from keras_svag.distribution import check_batch_size
from keras_svag.engine.spec import GAUSSIAN, SVAG
from keras_svag.theory.equilibrium.measurement import lengths_inside

MAX_STEPS = 2**31 - 1  # `iterations` is an int32 on JAX


def check_runs(recipe, specs, recording, window):
    """Raises what a run would raise later, while nothing is written yet.

    Args:
        recipe: a `Recipe`.
        specs: list of `RunSpec`.
        recording: a `Recording`.
        window: two fractions of the run.

    Raises:
        ValueError: if the model cannot be built, a batch size does not go with the sampling or the
            optimizer's scaling rule, a full-batch run would see augmented inputs, a run has more
            steps than can be counted, or no records in the window.
    """
    _check_lengths(specs)
    recipe.network  # noqa: B018 (built, with its checks)
    for batch_size, ell in sorted({(spec.batch_size, spec.ell) for spec in specs}):
        recipe.optimizer_at(batch_size).ell = ell
    # Gaussian noise draws no batches.
    for batch_size in sorted({spec.batch_size for spec in specs if spec.method == SVAG}):
        Sampler(recipe.num_train, batch_size, recipe.sampling)
        check_batch_size(batch_size)
    if recipe.augmentation is not None and any(spec.method == GAUSSIAN for spec in specs):
        raise ValueError(
            "`augment` must be None (in a config: `dataset.augment` False) for full-batch steps "
            "with Gaussian noise, whose covariance is that of a fixed set of examples. Received: "
            f"augment={recipe.augmentation!r}"
        )
    check_records(specs, recording, window)


def _check_lengths(specs):
    for spec in specs:
        if spec.steps > MAX_STEPS:
            raise ValueError(
                f"`epochs` and `ell` must be so small that a run has at most {MAX_STEPS:,} steps, "
                f"which the optimizer can count. Received: run {spec.name} with {spec.steps:,} "
                f"steps (ell={spec.ell:g} times {spec.total:,}). Use a smaller ell or fewer epochs."
            )


def check_records(specs, recording, window):
    """Raises where a run would have no records in the window over which N, G and R are averaged."""
    for spec in specs:
        if not any(lengths_inside(recording.points(spec), spec.total, window)):
            raise ValueError(
                "`num_records` must be so large that some records lie inside the window (in a "
                "config: `equilibrium`), over which N, G and R are averaged; run "
                f"{spec.name} would have none. Received: num_records={recording.num_records}, "
                f"window={window}. Use more records, or longer runs."
            )


def require_plain_sgd(facts, study):
    """Raises where a study models SGD without momentum and the recipe has another optimizer."""
    if not facts.is_plain_sgd:
        raise ValueError(
            f"`optimizer` must be SGD without momentum in the study {study}, which compares with "
            f"Gaussian steps of plain SGD. Received: optimizer={facts.title}"
        )
