"""The study "how fast does SVAG(l) tend to its SDE?": weak errors against l and their order.

Theorem 4.3 of Li, Malladi, Arora 2021 (arXiv 2102.12470): for a fixed time horizon the error of
expectations is O(1/l).
"""

import functools
import math

import numpy as np
from scipy import stats

from keras_svag import theory
from keras_svag.study import figures, preemption, records, runs
from keras_svag.study.config import validate_config
from keras_svag.study.grid import (
    announce_cost,
    check_buildable,
    execute_grid,
    load_dataset_of,
    make_run,
    summarize_runs,
)
from keras_svag.study.linear_chains import simulate
from keras_svag.study.optimizer import require_plain_sgd
from keras_svag.study.pool import RunPool
from keras_svag.study.shard import parse_shard
from keras_svag.study.workdir import begin, finish
from keras_svag.theory import LinearProblem, svag_steps

STUDY = "weak_convergence"
# The order by exact moments is fitted where higher orders have died out.
ASYMPTOTIC_ELL = 16
MOMENTS = ("mean", "second moment")
TITLES = {
    "weight_norm": "R",
    "train_loss": "train loss",
    "test_loss": "test loss",
    "weight_function": "mean of tanh(x)²",
}


def run_weak_convergence(config, workdir, command=None, show_progress=True, shard=None):
    """Runs the study, or goes on with it, and writes everything it leaves behind.

    Args:
        config: nested dict or `ConfigDict`, such as `configs/weak_convergence.py` gives.
        workdir: folder for all files.
        command: list of strings, the command to show in the report. Defaults to that of this
            process.
        show_progress: whether to show a progress bar. Defaults to `True`.
        shard: `"i/n"` to do the i-th of n parts of the runs only, or `None` for all of them.
            Defaults to `None`.

    Returns:
        The dict that stands in `verdict.json`; `None` as long as runs of other shards are missing.

    Raises:
        ValueError: if the config is wrong or `workdir` belongs to another one.
        PreemptedError: after checkpoints, if SIGTERM came and `preemption.watch` was called.
        WriteError: if a file cannot be written.
    """
    shard = parse_shard(shard)
    config = validate_config(config, STUDY)
    require_plain_sgd(config, STUDY)
    load_dataset = functools.partial(load_dataset_of, config["dataset"])
    dataset = load_dataset()
    num_train = dataset.num_train
    grid = build_grid(config, num_train)
    check_buildable(config, dataset, grid)
    workdir, setting = begin(workdir, STUDY, config, dataset, command)
    announce_cost(grid, num_train, workdir, show_progress, shard)
    with RunPool(config, load_dataset, workdir, config["num_workers"]) as pool:
        results = execute_grid(pool, grid, num_train, workdir, show_progress, shard)
    if results is None:
        return None
    table = summarize_runs(grid, results, config, num_train, workdir)
    verdict = {
        "study": STUDY,
        "exact": exact_errors(config[STUDY]),
        "simulated": simulated_errors(config[STUDY], config["seed"]),
        "network": network_errors(grid, table, config, workdir),
        "failed_runs": {r["name"]: r["message"] for r in table if r["status"] == runs.FAILED},
    }
    draw = functools.partial(figures.draw_weak_convergence, workdir, verdict)
    finish(workdir, verdict, table, draw, config, setting, TITLES)
    return verdict


def build_grid(config, num_train):
    """The network's runs: SVAG at each ell, and many Gaussian steps, over the same seeds.

    Args:
        config: a validated config.
        num_train: n, number of training examples.

    Returns:
        A list of `Run`.
    """
    methods = [(ell, runs.SVAG) for ell in config[STUDY]["ells"]]
    methods += [(m, runs.GAUSSIAN) for m in config[STUDY]["noise_steps"]]
    return [
        make_run(config, num_train, config["base_batch_size"], ell, seed, method)
        for ell, method in methods
        for seed in range(config["num_seeds"])
    ]


def linear_problem(study):
    """The linear problem of a config's `weak_convergence`."""
    return LinearProblem(study["linear_a"], study["linear_b"], study["linear_learning_rate"])


def exact_errors(study):
    """Weak errors on the linear problem by exact moments.

    Args:
        study: the `weak_convergence` part of a validated config.

    Returns:
        A list with a dict for the mean and one for the second moment: `ells`, `errors`,
        `scaled_errors` (l times the error, which converges), `order` over l >= 16 and
        `leading_error`, the limit of `scaled_errors`.
    """
    problem, horizon = linear_problem(study), study["linear_horizon"]
    start, ells = study["linear_start"], np.array(study["linear_ells"])
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


def simulated_errors(study, seed):
    """Weak errors on the linear problem by simulation through the real train step.

    Args:
        study: the `weak_convergence` part of a validated config.
        seed: int.

    Returns:
        A list with a dict for each moment: `ells`, `errors` and their `standard_errors`,
        `exact_errors` at the same ells, `scores` (deviation from the exact recursion in standard
        errors), `slope` with its interval and `exact_slope` over the same ells.
    """
    problem, horizon = linear_problem(study), study["linear_horizon"]
    start, ells = study["linear_start"], np.array(study["simulated_ells"])
    limit = _moments(problem.sde_moments(start, horizon * problem.time_per_step))
    samples, exact = [], []
    for ell in ells:
        preemption.end_if_requested()
        steps = svag_steps(horizon, ell)
        samples.append(simulate(problem, ell, start, steps, study["num_chains"], seed))
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


def network_errors(grid, table, config, workdir):
    """Weak errors of the network's observables at the end of the run.

    Args:
        grid: list of `Run`.
        table: rows of `summarize_runs`, in the same order.
        config: a validated config.
        workdir: folder of the study.

    Returns:
        A list with a dict for each test function: `euler_maruyama` (extrapolated in its step) and
        `extrapolated` (from the two largest ell), two estimates of the SDE's value; for each ell
        the `values` and the `errors` against Euler-Maruyama (seed by seed, since initial weights
        are shared), and the `order` with its interval over the ells whose error is resolved.
    """
    ends = {}
    for run, row in zip(grid, table):
        if row["status"] == runs.DONE:
            last = records.read_jsonl(runs.RunFolder(workdir, run.name).metrics)[-1]
            ends[run.method, run.ell, run.seed] = last
    ells = config[STUDY]["ells"]
    noise_steps = config[STUDY]["noise_steps"]
    methods = [(runs.SVAG, ell) for ell in ells] + [(runs.GAUSSIAN, m) for m in noise_steps]
    seeds = [
        seed
        for seed in range(config["num_seeds"])
        if all((*method, seed) in ends for method in methods)
    ]
    if len(seeds) < 2:
        return []
    return [_errors_of(name, ends, ells, noise_steps, seeds) for name in TITLES]


def _errors_of(name, ends, ells, noise_steps, seeds):
    def values_of(method, steps):
        return np.array([ends[method, steps, seed][name] for seed in seeds])

    coarse, fine = noise_steps
    # At m steps Euler-Maruyama has an error of order 1/m itself.
    truth = theory.extrapolate(
        coarse, values_of(runs.GAUSSIAN, coarse), fine, values_of(runs.GAUSSIAN, fine)
    )
    values = {ell: values_of(runs.SVAG, ell) for ell in ells}
    errors = {ell: theory.mean_interval(values[ell] - truth) for ell in ells}
    spread = {ell: theory.standard_error(values[ell] - truth) for ell in ells}
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


def fit_slope(ells, errors, standard_errors=None):
    """Slope of log |error| against log l, weighted by the errors' precision.

    Args:
        ells: array of amplifications.
        errors: array of weak errors, none of them 0.
        standard_errors: array of their standard errors, or `None` for exact errors.

    Returns:
        A `theory.Interval`, 95 %, by error propagation (the errors at different l are taken as
        independent).

    Example:

    >>> round(fit_slope(np.array([1.0, 2.0, 4.0]), np.array([0.4, 0.2, 0.1])).mean, 6)
    -1.0
    """
    x, y = np.log(ells), np.log(np.abs(errors))
    if standard_errors is None:
        weights = np.ones(len(x))
    else:
        weights = (np.abs(errors) / standard_errors) ** 2
    centred = x - np.average(x, weights=weights)
    total = np.sum(weights * centred**2)
    slope = float(np.sum(weights * centred * y) / total)
    half = 0.0 if standard_errors is None else stats.norm.ppf(0.975) / math.sqrt(total)
    return theory.Interval(slope, slope - half, slope + half)


def format_errors(verdict):
    """The table that the trainer prints at its end.

    Args:
        verdict: the dict of `verdict.json`.

    Returns:
        A string of several lines.
    """
    lines = ["Linear problem, exact moments:"]
    for row in verdict["exact"]:
        scaled = ", ".join(f"{value:.4g}" for value in row["scaled_errors"])
        order = "-" if row["order"] is None else f"{row['order']:.3f}"
        lines.append(
            f"  {row['quantity']}: order {order}; l e(l) = {scaled} -> {row['leading_error']:.4g}"
        )
    lines.append("Linear problem, real train step:")
    for row in verdict["simulated"]:
        scores = ", ".join(f"{score:+.2f}" for score in row["scores"])
        lines.append(
            f"  {row['quantity']}: slope {_text(row['slope'])} (exact {row['exact_slope']:.3f}); "
            f"standard errors from the exact recursion: {scores}"
        )
    lines.append("Network:")
    for row in verdict["network"]:
        errors = ", ".join(_text(error) for error in row["errors"])
        order = "not resolved" if row["order"] is None else _text(row["order"])
        lines.append(f"  {row['quantity']}: order {order}; errors {errors}")
    return "\n".join(lines)


def _text(interval):
    return f"{interval.mean:.4g} [{interval.ci_low:.3g}, {interval.ci_high:.3g}]"
