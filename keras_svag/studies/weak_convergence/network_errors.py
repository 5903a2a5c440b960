"""Weak errors of a network's observables against the Euler-Maruyama simulation of its SDE."""

import numpy as np

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.engine.spec import GAUSSIAN, SVAG
from keras_svag.studies.base.table import read_rows
from keras_svag.studies.weak_convergence.slope import fit_slope
from keras_svag.theory.statistics.intervals import standard_error

TITLES = {
    "weight_norm": "R",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "weight_function": "mean of tanh(x)²",
}


def network_errors(study, table, workdir):
    """Returns a dict per observable: its values and errors at the end of the run, by ell."""
    last = {}
    for row in table:
        if row["status"] == DONE:
            last[row["method"], row["ell"], row["seed"]] = read_rows(workdir, row["name"])[-1]
    methods = [(SVAG, ell) for ell in study.ells] + [(GAUSSIAN, m) for m in study.noise_steps]
    seeds = [
        seed
        for seed in sorted({row["seed"] for row in table})
        if all((*method, seed) in last for method in methods)
    ]
    if len(seeds) < 2:
        return []
    rows = []
    for name in TITLES:
        if all(name in record for record in last.values()):
            values = {
                method: np.array([last[*method, seed][name] for seed in seeds])
                for method in methods
            }
            rows.append({"quantity": name, "num_seeds": len(seeds), **_errors(study, values)})
    return rows


def _errors(study, values):
    """Returns the errors of one observable, given an array over seeds for each method."""
    ells, (coarse, fine) = study.ells, study.noise_steps
    svag = {ell: values[SVAG, ell] for ell in ells}
    # Euler-Maruyama with m steps has an error of order 1/m itself.
    truth = theory.extrapolate(coarse, values[GAUSSIAN, coarse], fine, values[GAUSSIAN, fine])
    # Paired by seed, since all methods share their initial weights.
    errors = {ell: theory.mean_interval(svag[ell] - truth) for ell in ells}
    resolved = [ell for ell in ells if errors[ell].ci_low > 0 or errors[ell].ci_high < 0]
    order = None
    if len(resolved) > 1 and len({errors[ell].mean > 0 for ell in resolved}) == 1:
        slope = fit_slope(
            np.array(resolved),
            np.array([errors[ell].mean for ell in resolved]),
            np.array([standard_error(svag[ell] - truth) for ell in resolved]),
        )
        order = theory.Interval(-slope.mean, -slope.ci_high, -slope.ci_low)
    small, large = ells[-2:]
    return {
        "euler_maruyama": theory.mean_interval(truth),
        "extrapolated": theory.mean_interval(
            theory.extrapolate(small, svag[small], large, svag[large])
        ),
        "ells": ells,
        "values": [theory.mean_interval(svag[ell]) for ell in ells],
        "errors": list(errors.values()),
        "resolved_ells": resolved,
        "order": order,
    }
