"""Weak errors on the linear problem: by exact moments, and through the real train step."""

import contextlib
import math
import warnings

import numpy as np

from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption
from keras_svag.studies.weak_convergence.linear_simulation import simulate
from keras_svag.theory import Interval, LinearProblem, fit_errors, svag_steps

# The order by exact moments is fitted where higher orders have died out.
ASYMPTOTIC_ELL = 16
MOMENTS = ("mean", "second moment")
CACHE = "simulated.json"
FIT = "a/l + b/l^2"  # what `simulated.json` holds
# Fields of the study that the simulation depends on, besides its seed.
SIMULATION_FIELDS = (
    "linear_a",
    "linear_b",
    "linear_learning_rate",
    "linear_start",
    "linear_horizon",
    "simulated_ells",
    "num_chains",
)


def exact_errors(study):
    """Returns a dict per moment: the errors by exact moments, their order, and ell times them."""
    ells, problem = np.array(study.linear_ells), _linear_problem(study)
    time = study.linear_horizon * problem.time_per_step
    limit, moments = _exact_moments(study, ells)
    is_large = ells >= ASYMPTOTIC_ELL
    rows = []
    for name, errors, leading in zip(
        MOMENTS, (moments - limit).T, problem.leading_error(study.linear_start, time)
    ):
        order = None
        if is_large.sum() > 1:
            order = -_slope(ells[is_large], errors[is_large])
        rows.append(
            {
                "quantity": name,
                "ells": ells.tolist(),
                "errors": errors.tolist(),
                "scaled_errors": (ells * errors).tolist(),
                "leading_error": float(leading.ravel()[0]),
                "order": order,
            }
        )
    return rows


def _slope(ells, errors):
    return float(np.polyfit(np.log(ells), np.log(np.abs(errors)), 1)[0])


def _linear_problem(study):
    return LinearProblem(study.linear_a, study.linear_b, study.linear_learning_rate)


def _exact_moments(study, ells):
    """Returns both moments of the SDE, and those of SVAG with a row per ell."""
    problem, start, horizon = _linear_problem(study), study.linear_start, study.linear_horizon
    limit = problem.sde_moments(start, horizon * problem.time_per_step)
    svag = [problem.svag_moments(ell, start, svag_steps(horizon, ell)) for ell in ells]
    limit, *rows = ([float(m.mean[0]), float(m.second[0, 0])] for m in (limit, *svag))
    return np.array(limit), np.array(rows)


def cached_errors(study, workdir):
    """Returns the simulated errors from `simulated.json` if they are those of this study."""
    # They train, which judging a study again must not.
    path = workdir / CACHE
    parameters = {name: getattr(study, name) for name in ("seed", *SIMULATION_FIELDS)}
    parameters["fit"] = FIT
    try:
        cached = records.read_sealed(path) or {}
    except records.DamagedError as error:
        warnings.warn(f"`{path}` is damaged: {error.problem}. It is simulated again.", stacklevel=2)
        cached = {}
    if cached.get("parameters") == records.to_json(parameters):
        return [
            row | {name: read_interval(row[name]) for name in ("first", "second", "order")}
            for row in cached["rows"]
        ]
    rows = simulated_errors(study)
    with contextlib.suppress(records.ReadOnlyError):
        records.write_sealed(path, {"parameters": parameters, "rows": rows})
    return rows


def read_interval(ends):
    """Returns an `Interval` from JSON, which has no infinite ends."""
    missing = {"mean": math.nan, "ci_low": -math.inf, "ci_high": math.inf}
    return Interval(**{name: missing[name] if end is None else end for name, end in ends.items()})


def simulated_errors(study):
    """Returns a dict per moment: errors of the real train step, and scores against exact ones."""
    ells, problem = np.array(study.simulated_ells), _linear_problem(study)
    samples = []
    for ell in ells:
        preemption.raise_if_requested()
        steps = svag_steps(study.linear_horizon, ell)
        samples.append(
            simulate(problem, ell, study.linear_start, steps, study.num_chains, study.seed)
        )
    limit, moments = _exact_moments(study, ells)
    rows = []
    for i, name in enumerate(MOMENTS):
        powers = [x ** (i + 1) for x in samples]
        errors = np.array([p.mean() for p in powers]) - limit[i]
        spread = np.array([p.std() / math.sqrt(len(p)) for p in powers])
        exact = moments[:, i] - limit[i]
        # The limit is known exactly: two equal "seeds".
        fit = fit_errors(dict(zip(ells.tolist(), powers)), [limit[i], limit[i]])
        rows.append(
            {
                "quantity": name,
                "ells": ells.tolist(),
                "errors": errors.tolist(),
                "standard_errors": spread.tolist(),
                "exact_errors": exact.tolist(),
                # Deviation from the exact recursion in standard errors.
                "scores": ((errors - exact) / spread).tolist(),
                "first": fit.first,
                "second": fit.second,
                "lack_of_fit": fit.lack_of_fit,
                "order": fit.order,
                "exact_order": -_slope(ells[-2:], exact[-2:]),
            }
        )
    return rows
