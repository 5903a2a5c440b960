"""Verdict of the branches, and the prediction by N and G at the branch point."""

import dataclasses
import math
from typing import cast

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.studies.base.looks import look_number
from keras_svag.studies.base.table import column, failed_runs, read_rows, summarize_runs
from keras_svag.theory.equilibrium.measurement import lengths_inside, measure_window, window_means
from keras_svag.theory.outcomes import BASE, observed_max_kappa
from keras_svag.theory.verdicts.branches import LOSS

UNKNOWN = theory.Interval(math.nan, -math.inf, math.inf)


@dataclasses.dataclass(frozen=True)
class Before:
    """The runs up to the branch point: rows of the table, and their window of N and G."""

    window: theory.Window
    rows: list


def measure(study, specs, results, workdir):
    """Returns the runs up to the branch point, averaged over equilibrium if they reach it."""
    facts, spec = study.facts, specs[0]
    histories = {
        s.name: read_rows(workdir, s.name) for s in specs if results[s.name]["status"] == DONE
    }
    decay = facts.balancing_decay_at(spec.batch_size)
    window = measure_window(list(histories.values()), spec.total, study.window, decay)
    fractions = cast(tuple[float, float], window.fractions)
    rows = summarize_runs(specs, results, fractions, facts, workdir)
    for row in rows:
        row["kappa"] = 1.0
        if row["status"] == DONE:
            means = window_means(histories[row["name"]], spec.total, fractions)
            row["bound_noise"], row["bound_signal"] = theory.noise_and_signal_for_scaling(
                means["gradient_noise"],
                means["gradient_signal"],
                spec.batch_size,
                facts.num_train,
                facts.sampling,
            )
    return Before(window, rows)


def measure_branches(study, specs, results, workdir):
    """Returns the rows of the table of the branches, with `kappa` and the smoothed loss."""
    rows = summarize_runs(specs, results, study.window, study.facts, workdir)
    for spec, row in zip(specs, rows):
        row["kappa"] = spec.kappa
        if row["status"] == DONE:
            row[LOSS] = _smoothed_loss(read_rows(workdir, spec.name), spec.total, study.recovery)
    return rows


def _smoothed_loss(rows, total, recovery):
    """Returns the mean training loss after the recovery, of the last record at least."""
    lengths = lengths_inside([row["effective_step"] for row in rows], total, (recovery, 1.0))
    weights = lengths if any(lengths) else [*[0] * (len(rows) - 1), 1]
    inside = [(row["train_loss"], weight) for row, weight in zip(rows, weights) if weight]
    return sum(loss * weight for loss, weight in inside) / sum(weight for _, weight in inside)


def predict(study, before):
    """Returns the dict of `prediction.json`: the largest kappa by N and G at the branch point."""
    noise, signal = column(before.rows, "bound_noise"), column(before.rows, "bound_signal")
    forms = (theory.TIGHT, theory.PAPER)
    return {
        "study": study.name,
        "closeness": study.closeness,
        "base_batch_size": study.base_batch_size,
        "predicted_max_kappa": {
            form: theory.lsr_max_kappa(noise, signal, study.closeness, form) if noise else UNKNOWN
            for form in forms
        },
        "noise_to_signal": theory.ratio_of_means(noise, signal) if noise else UNKNOWN,
        "window": before.window.fractions,
        "runs": column(before.rows, "name"),
    }


def build_verdict(study, before, rows, workdir):
    """Returns the dict of `verdict.json`."""
    prediction = predict(study, before)
    cells = {kappa: [r for r in rows if r["kappa"] == kappa] for kappa in study.factors}
    cells = {kappa: cell for kappa, cell in cells.items() if cell}
    looks = {
        cell[0]["batch_size"]: {str(k): len(cells[k]) for k in (1.0, kappa)}
        for kappa, cell in cells.items()
        if kappa != 1
    }
    settings = [_judge(study, kappa, cells, looks, workdir) for kappa in cells]
    losses = _losses_of_common_seeds(cells)
    factor = theory.critical_factor(losses, study.tolerance) if losses[1.0] else UNKNOWN
    bound = prediction["predicted_max_kappa"][theory.TIGHT]
    assumptions = study.facts.assumptions() | {
        "equilibrium at the branch point": before.window.reached
    }
    return {
        "study": study.name,
        "closeness": study.closeness,
        "confidence": theory.CONFIDENCE,
        "tolerance": study.tolerance,
        "recovery": study.recovery,
        "base_batch_size": study.base_batch_size,
        "branch_step": study.base_steps,
        "num_examples": study.num_examples,
        "noise_to_signal": prediction["noise_to_signal"],
        "predicted_max_kappa": prediction["predicted_max_kappa"],
        "critical_factor": factor,
        "observed_max_kappa": observed_max_kappa(settings),
        "comparison": compare_with_bound(factor, bound, assumptions),
        "premises": assumptions,
        "window": before.window.fractions,
        "settings": settings,
        "looks": looks,
        "failed_runs": failed_runs([*before.rows, *rows]),
    }


def _judge(study, kappa, cells, looks, workdir):
    """Returns the entry of `settings` of one factor."""
    cell, base = cells[kappa], cells[1.0]
    losses = column(cell, LOSS)
    setting = {
        "kappa": kappa,
        "batch_size": cell[0]["batch_size"],
        "learning_rate": cell[0]["learning_rate"],
        "steps": cell[0]["steps"],
        "num_seeds": len(losses),
        "failed": len(cell) - len(losses),
        LOSS: theory.mean_interval(losses),
    }
    if kappa == 1:
        reason = "the branches that all others are compared with."
        return setting | {"look": None, "outcome": BASE, "reason": reason, "loss_ratio": None}
    size = cell[0]["batch_size"]
    look = look_number(workdir, size, looks[size])
    first, second = _pairs(base, cell)
    found = theory.judge_branch(first, second, study.tolerance, look=look)
    outcome = {"look": look, "outcome": found.verdict, "reason": found.reason}
    return setting | outcome | {"loss_ratio": found.ratios.get(LOSS)}


def _by_seed(cell):
    return {row["seed"]: row.get(LOSS, math.nan) for row in cell}


def _pairs(base, cell):
    """Returns the losses of the seeds that both factors have, NaN for those that failed."""
    first, second = _by_seed(base), _by_seed(cell)
    seeds = [seed for seed in first if seed in second]
    return [first[seed] for seed in seeds], [second[seed] for seed in seeds]


def _losses_of_common_seeds(cells):
    """Returns the losses of the seeds that have a branch at every factor, by factor."""
    losses = {kappa: _by_seed(cell) for kappa, cell in cells.items()}
    seeds = [s for s in losses[1.0] if all(s in of for of in losses.values())]
    return {kappa: [of[seed] for seed in seeds] for kappa, of in losses.items()}


def compare_with_bound(factor, bound, premises):
    """Returns the `ratio` of the critical factor to the bound, `is_theorem`, and `reason`."""
    is_theorem = all(premises.values())
    noun = "bound" if is_theorem else "guide"
    if not (math.isfinite(factor.mean) and math.isfinite(bound.mean)):
        reason = f"There is no {noun} to compare with: G at the branch point may be zero."
        if not math.isfinite(factor.mean):
            reason = "No seed has finished all its branches, with a loss > 0 at factor 1."
        return {"ratio": None, "is_theorem": is_theorem, "reason": reason}
    ratio = factor.mean / bound.mean
    at_least = "at least " if math.isinf(factor.ci_high) else ""
    reason = (
        f"The critical factor is {at_least}{ratio:.2g} times the {noun} "
        f"C^2 + (C^2 - 1) N/G = {bound}. The {noun} is about R, B N and G, not about the loss."
    )
    return {"ratio": ratio, "is_theorem": is_theorem, "reason": reason}


def describe_interval(value):
    """Formats an `Interval` as JSON holds it, with words for a missing end."""
    if value is None or value["mean"] is None:
        return "unknown"
    low, high = value["ci_low"], value["ci_high"]
    if not low:  # of a single seed
        return f"{value['mean']:.3g} (no interval)"
    if high is None:
        return f"{value['mean']:.3g} or more (95 %: {low:.3g} at least)"
    return f"{value['mean']:.3g} (95 %: {low:.3g} to {high:.3g})"
