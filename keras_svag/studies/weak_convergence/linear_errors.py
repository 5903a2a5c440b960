"""Weak errors on the linear problem: by exact moments, and through the real train step."""

import math

import numpy as np

from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption
from keras_svag.studies.weak_convergence.linear_simulation import simulate
from keras_svag.studies.weak_convergence.slope import fit_slope
from keras_svag.theory import Interval, LinearProblem, svag_steps

# The order by exact moments is fitted where higher orders have died out.
ASYMPTOTIC_ELL = 16
MOMENTS = ("mean", "second moment")
KEPT = "simulated.json"
# What the simulation depends on.
PARAMETERS = (
    "seed",
    "linear_a",
    "linear_b",
    "linear_learning_rate",
    "linear_start",
    "linear_horizon",
    "simulated_ells",
    "num_chains",
)


def linear_problem(study):
    """The linear problem of a `WeakConvergence`."""
    return LinearProblem(study.linear_a, study.linear_b, study.linear_learning_rate)


def exact_errors(study):
    """Weak errors on the linear problem by exact moments.

    Args:
        study: a `WeakConvergence`.

    Returns:
        A list with a dict for the mean and one for the second moment: `ells`, `errors`,
        `scaled_errors` (l times the error, which converges), `order` over l >= 16 and
        `leading_error`, the limit of `scaled_errors`.
    """
    problem, horizon = linear_problem(study), study.linear_horizon
    start, ells = study.linear_start, np.array(study.linear_ells)
    time = horizon * problem.time_per_step
    limit = _moments(problem.sde_moments(start, time))
    values = np.array(
        [_moments(problem.svag_moments(ell, start, svag_steps(horizon, ell))) for ell in ells]
    )
    leading = [float(part.ravel()[0]) for part in problem.leading_error(start, time)]
    rows = []
    for i, name in enumerate(MOMENTS):
        errors = values[:, i] - limit[i]
        large = ells >= ASYMPTOTIC_ELL
        rows.append(
            {
                "quantity": name,
                "ells": ells.tolist(),
                "errors": errors.tolist(),
                "scaled_errors": (ells * errors).tolist(),
                "leading_error": leading[i],
                "order": -fit_slope(ells[large], errors[large]).mean if large.sum() > 1 else None,
            }
        )
    return rows


def _moments(moments):
    return [float(moments.mean[0]), float(moments.second[0, 0])]


def kept_errors(study, workdir):
    """The simulated errors of a study, from `simulated.json` of its folder where they stand there.

    They train: judging a study anew must not.
    """
    path = workdir / KEPT
    parameters = {name: getattr(study, name) for name in PARAMETERS}
    kept = records.read_json(path) or {}
    if kept.get("parameters") == records.to_json(parameters):
        return [{**row, "slope": Interval(**row["slope"])} for row in kept["rows"]]
    rows = simulated_errors(study)
    records.write_json(path, {"parameters": parameters, "rows": rows})
    return rows


def simulated_errors(study):
    """Weak errors on the linear problem by simulation through the real train step.

    Args:
        study: a `WeakConvergence`.

    Returns:
        A list with a dict for each moment: `ells`, `errors` and their `standard_errors`,
        `exact_errors` at the same ells, `scores` (deviation from the exact recursion in standard
        errors), `slope` with its interval and `exact_slope` over the same ells.
    """
    problem, horizon = linear_problem(study), study.linear_horizon
    start, ells = study.linear_start, np.array(study.simulated_ells)
    limit = _moments(problem.sde_moments(start, horizon * problem.time_per_step))
    samples, exact = [], []
    for ell in ells:
        preemption.raise_if_requested()
        steps = svag_steps(horizon, ell)
        samples.append(simulate(problem, ell, start, steps, study.num_chains, study.seed))
        exact.append(_moments(problem.svag_moments(ell, start, steps)))
    rows = []
    for i, name in enumerate(MOMENTS):
        powers = [x ** (i + 1) for x in samples]
        errors = np.array([p.mean() for p in powers]) - limit[i]
        spread = np.array([p.std() / math.sqrt(len(p)) for p in powers])
        exact_error = np.array(exact)[:, i] - limit[i]
        rows.append(
            {
                "quantity": name,
                "ells": ells.tolist(),
                "errors": errors.tolist(),
                "standard_errors": spread.tolist(),
                "exact_errors": exact_error.tolist(),
                "scores": ((errors - exact_error) / spread).tolist(),
                "slope": fit_slope(ells, errors, spread),
                "exact_slope": fit_slope(ells, exact_error).mean,
            }
        )
    return rows
