"""Weak errors of a network's observables against the Euler-Maruyama simulation of its SDE."""

import math

import numpy as np

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.engine.spec import GAUSSIAN, SVAG
from keras_svag.studies.base.table import read_rows
from keras_svag.theory.outcomes import FAILS, HOLDS, INCONCLUSIVE

# Halfway to the orders 0 (no convergence) and 2.
ORDER_LIMITS = (0.5, 1.5)
TITLES = {
    "weight_norm": "R",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "weight_function": "mean of tanh(x)²",
}


def read_ends(table, workdir):
    """Returns finite last records by method, ell and seed, and messages on the others by name."""
    last, not_finite = {}, {}
    for row in table:
        if row["status"] == DONE:
            record = read_rows(workdir, row["name"])[-1]
            names = [n for n in TITLES if n in record and not _is_finite(record[n])]
            if names:
                not_finite[row["name"]] = f"{', '.join(names)} not finite at the end of the run."
            else:
                last[row["method"], row["ell"], row["seed"]] = record
    return last, not_finite


def _is_finite(value):
    return value is not None and math.isfinite(value)  # JSON holds the others as null


def network_errors(study, table, last):
    """Returns a dict per observable: its values and errors at the end of the run, by ell."""
    methods = [(SVAG, ell) for ell in study.ells] + [(GAUSSIAN, m) for m in study.noise_steps]
    seeds = [
        seed
        for seed in sorted({row["seed"] for row in table})
        if all((*method, seed) in last for method in methods)
    ]
    if len(seeds) < 2:
        return []
    quantities = [name for name in TITLES if all(name in record for record in last.values())]
    rows = []
    for name in quantities:
        values = {
            method: np.array([last[*method, seed][name] for seed in seeds]) for method in methods
        }
        errors = _errors(study, values, len(quantities))
        rows.append({"quantity": name, "num_seeds": len(seeds), **errors})
    return rows


def _errors(study, values, num_quantities):
    """Returns the errors of one observable, given an array over seeds for each method."""
    ells, (coarse, fine) = study.ells, study.noise_steps
    svag = {ell: values[SVAG, ell] for ell in ells}
    # Euler-Maruyama with m steps has an error of order 1/m itself.
    truth = theory.extrapolate(coarse, values[GAUSSIAN, coarse], fine, values[GAUSSIAN, fine])
    # Paired by seed, since all methods share their initial weights.
    fit = theory.fit_errors(svag, truth, paired=True)
    # Any of the orders can err, hence Bonferroni.
    confidence = 1 - (1 - theory.CONFIDENCE) / num_quantities
    small, large = ells[-2:]
    return {
        "euler_maruyama": theory.mean_interval(truth),
        "extrapolated": theory.mean_interval(
            theory.extrapolate(small, svag[small], large, svag[large])
        ),
        "ells": ells,
        "values": [theory.mean_interval(svag[ell]) for ell in ells],
        "errors": [fit.errors[ell] for ell in ells],
        "first": fit.first,
        "second": fit.second,
        "lack_of_fit": fit.lack_of_fit,
        "order": theory.fit_errors(svag, truth, paired=True, confidence=confidence).order,
    }


def is_resolved(order):
    """Returns True if the interval of an order has both ends."""
    return math.isfinite(order.ci_low) and math.isfinite(order.ci_high)


def outcome_of(order):
    """The word for an interval of an order: that it is 1 is shown by its lying near 1."""
    low, high = ORDER_LIMITS
    if low < order.ci_low and order.ci_high < high:
        return HOLDS
    return FAILS if order.ci_high < low or order.ci_low > high else INCONCLUSIVE
