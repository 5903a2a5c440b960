"""Fails early: validates every run of a study before anything is written."""

import dataclasses

from keras_svag.datasets import Sampler
from keras_svag.distribution import check_batch_size
from keras_svag.engine.spec import GAUSSIAN
from keras_svag.theory.equilibrium.measurement import lengths_inside
from keras_svag.theory.sampling_modes import FIXED_ORDER, WITH_REPLACEMENT

SMALLEST_DIFFERENCE = 1e-4  # of two ells: the seed of a run's batches rounds to 2^-16
MAX_STEPS = 2**31 - 1  # `iterations` is an int32 on JAX


def check_is_random(sampling):
    """Raises a `ValueError` if batches are not random."""
    if sampling == FIXED_ORDER:
        raise ValueError(
            "`sampling` must be random: in a fixed order there is no gradient noise to scale. "
            f"Received: sampling={FIXED_ORDER!r}. Use sampling='with_replacement'."
        )


def check_runs(recipe, specs, recording, window):
    """Raises a `ValueError` now for whatever a run would raise later."""
    for spec in specs:
        if spec.steps > MAX_STEPS:
            raise ValueError(
                "`epochs` and `ell` must give runs of at most "
                f"{MAX_STEPS:,} steps, the largest `iterations`. Received: run {spec.name} with "
                f"{spec.steps:,} steps (ell={spec.ell:g} times {spec.total:,}). Use a smaller ell "
                "or fewer epochs."
            )
    _check_names(specs)
    recipe.network  # noqa: B018 (builds and validates the model)
    for batch_size, ell in sorted({(spec.batch_size, spec.ell) for spec in specs}):
        recipe.optimizer_at(batch_size).ell = ell
    # Full-batch runs with Gaussian noise draw no batches.
    for batch_size in sorted({spec.batch_size for spec in specs if spec.method != GAUSSIAN}):
        Sampler(recipe.num_train, batch_size, recipe.sampling)
        check_batch_size(batch_size)
    if recipe.augmentation is not None and any(spec.method == GAUSSIAN for spec in specs):
        raise ValueError(
            "`augment` must be None (in a config: `dataset.augment` False) for full-batch steps "
            "with Gaussian noise, whose covariance is that of a fixed set of examples. Received: "
            f"augment={recipe.augmentation!r}"
        )
    check_records(specs, recording, window)


def _check_names(specs):
    """Raises if two ells are so close that their runs would share a folder or their batches."""
    ells = sorted({spec.ell for spec in specs})
    for first, second in zip(ells, ells[1:]):
        names = {dataclasses.replace(specs[0], ell=ell).name for ell in (first, second)}
        if len(names) == 1 or second - first < SMALLEST_DIFFERENCE:
            raise ValueError(
                "`ells` must differ by at least 1e-4 (and in the first 12 digits), so that each "
                f"has runs of its own. Received: ells={first!r}, {second!r}. Leave one out."
            )


def check_records(specs, recording, window):
    """Raises if a run has no records in the window over which N, G and R are averaged."""
    for spec in specs:
        if not any(lengths_inside(recording.points(spec), spec.total, window)):
            raise ValueError(
                "`num_records` must be large enough that every run has records in the window (in a "
                f"config: `equilibrium`), over which N, G and R are averaged; run {spec.name} has "
                f"none. Received: num_records={recording.num_records}, window={window}. Use more "
                "records or longer runs."
            )


def require_gaussian_model(facts, study):
    """Raises unless steps with Gaussian noise have the covariance of the recipe's own steps."""
    if not facts.is_plain_sgd:
        raise ValueError(
            f"`optimizer` must be SGD without momentum in the study {study}, which compares with "
            f"Gaussian steps of plain SGD. Received: optimizer={facts.title}"
        )
    if not facts.decays_all_weights:
        raise ValueError(
            f"`optimizer` must decay all weights in the study {study}, since Gaussian steps do. "
            "Received: an optimizer with exclude_from_weight_decay(). Leave it out."
        )
    if facts.sampling != WITH_REPLACEMENT:
        raise ValueError(
            f"`sampling` must be {WITH_REPLACEMENT!r} in the study {study}, which compares with "
            "Gaussian noise of the covariance of such batches. Received: "
            f"sampling={facts.sampling!r}. Use sampling={WITH_REPLACEMENT!r}."
        )
