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
    """Weak errors of the network's observables at the end of the run.

    Args:
        study: a `WeakConvergence`.
        table: rows of `results.csv`.
        workdir: folder of the study.

    Returns:
        A list with a dict for each test function: `euler_maruyama` (extrapolated in its step) and
        `extrapolated` (from the two largest ell), two estimates of the SDE's value; for each ell
        the `values` and the `errors` against Euler-Maruyama (seed by seed, since initial weights
        are shared), and the `order` with its interval over the ells whose error is resolved.
    """
    ends = {}
    for row in table:
        if row["status"] == DONE:
            ends[row["method"], row["ell"], row["seed"]] = read_rows(workdir, row["name"])[-1]
    ells, noise_steps = study.ells, study.noise_steps
    methods = [(SVAG, ell) for ell in ells] + [(GAUSSIAN, m) for m in noise_steps]
    seeds = [
        seed
        for seed in sorted({row["seed"] for row in table})
        if all((*method, seed) in ends for method in methods)
    ]
    if len(seeds) < 2:
        return []
    recorded = [name for name in TITLES if all(name in last for last in ends.values())]
    return [_errors_of(name, ends, ells, noise_steps, seeds) for name in recorded]


def _errors_of(name, ends, ells, noise_steps, seeds):
    def values_of(method, steps):
        return np.array([ends[method, steps, seed][name] for seed in seeds])

    coarse, fine = noise_steps
    # At m steps Euler-Maruyama has an error of order 1/m itself.
    truth = theory.extrapolate(coarse, values_of(GAUSSIAN, coarse), fine, values_of(GAUSSIAN, fine))
    values = {ell: values_of(SVAG, ell) for ell in ells}
    errors = {ell: theory.mean_interval(values[ell] - truth) for ell in ells}
    spread = {ell: standard_error(values[ell] - truth) for ell in ells}
    resolved = [ell for ell in ells if errors[ell].ci_low > 0 or errors[ell].ci_high < 0]
    same_sign = len({errors[ell].mean > 0 for ell in resolved}) == 1
    order = None
    if len(resolved) > 1 and same_sign:
        slope = fit_slope(
            np.array(resolved),
            np.array([errors[ell].mean for ell in resolved]),
            np.array([spread[ell] for ell in resolved]),
        )
        order = theory.Interval(-slope.mean, -slope.ci_high, -slope.ci_low)
    extrapolated = None
    if len(ells) > 1:
        small, large = ells[-2:]
        extrapolated = theory.mean_interval(
            theory.extrapolate(small, values[small], large, values[large])
        )
    return {
        "quantity": name,
        "num_seeds": len(seeds),
        "euler_maruyama": theory.mean_interval(truth),
        "extrapolated": extrapolated,
        "ells": ells,
        "values": [theory.mean_interval(values[ell]) for ell in ells],
        "errors": [errors[ell] for ell in ells],
        "resolved_ells": resolved,
        "order": order,
    }
