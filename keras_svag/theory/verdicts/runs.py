"""The runs that a verdict rests on: those that finished, and how many failed."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_svag.theory.coefficients import validate_ell

Runs = dict[str, dict[float, np.ndarray]]


def split_runs(
    values: Mapping[str, Mapping[float, Sequence[float]]],
) -> tuple[Runs, dict[float, int], dict[float, int]]:
    """Values of the finished runs, and the numbers of finished and failed runs by ell."""
    if not values or not all(values.values()):
        raise ValueError(
            "`values` must be a dict from quantity to a dict from ell to one number per seed. "
            f"Received: values={values!r}"
        )
    table: Runs = {
        quantity: {validate_ell(ell): np.asarray(of_ell[ell], float) for ell in sorted(of_ell)}
        for quantity, of_ell in values.items()
    }
    sizes = [{ell: len(seeds) for ell, seeds in of_ell.items()} for of_ell in table.values()]
    if any(size != sizes[0] for size in sizes):
        raise ValueError(
            "`values` must have the same runs for every quantity. Received: numbers of seeds by "
            f"ell {dict(zip(table, sizes, strict=True))}"
        )
    # A run that failed in one quantity failed.
    is_done = {ell: np.all([np.isfinite(of[ell]) for of in table.values()], 0) for ell in sizes[0]}
    runs = {q: {ell: of_ell[ell][is_done[ell]] for ell in of_ell} for q, of_ell in table.items()}
    finished = {ell: int(done.sum()) for ell, done in is_done.items()}
    return runs, finished, {ell: int((~done).sum()) for ell, done in is_done.items()}
