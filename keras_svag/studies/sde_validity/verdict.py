"""The verdict on the SDE: SGD against the limit of SVAG, at each batch size."""

import math

import numpy as np

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.studies.base.table import column, failed_runs, pair_by_seed, summarize_quantities
from keras_svag.theory import Interval, Verdict

WORST_FIRST = (theory.INVALID, theory.INCONCLUSIVE, theory.VALID)


def confidence_per_look(study):
    """Returns the confidence of one look at the data, such that all looks together have 95 %."""
    # Seeds are doubled while a verdict is inconclusive; each doubling is one more chance of error.
    doublings = math.ceil(math.log2(max(1, study.max_num_seeds / study.num_seeds)))
    return 1 - (1 - theory.CONFIDENCE) / (1 + doublings)


def build_verdict(study, table):
    """Returns the dict of `verdict.json`; the study's verdict is that of its worst batch size."""
    settings, verdicts = [], []
    for batch_size in study.batch_sizes:
        cells = {
            ell: [r for r in table if r["batch_size"] == batch_size and r["ell"] == ell]
            for ell in study.ells
        }
        cells = {ell: rows for ell, rows in cells.items() if rows}
        settings += [_summarize_cell(rows) for rows in cells.values()]
        verdicts.append(_judge_batch_size(study, batch_size, cells))
    worst = min(verdicts, key=lambda v: WORST_FIRST.index(v["verdict"]))
    return {
        "study": study.name,
        "verdict": worst["verdict"],
        "closeness": study.closeness,
        "confidence": confidence_per_look(study),
        "measured_closeness": worst["measured_closeness"],
        "necessary_condition": worst["necessary_condition"],
        "optimizer": study.facts.optimizer,
        "premises": study.facts.assumptions(),
        "verdicts": verdicts,
        "settings": settings,
        "failed_runs": failed_runs(table),
    }


def _summarize_cell(rows):
    summary = {name: rows[0][name] for name in ("batch_size", "learning_rate", "ell")}
    summary["num_seeds"] = len(column(rows, "seed"))
    return summary | summarize_quantities(rows) if summary["num_seeds"] else summary


def _judge_batch_size(study, batch_size, cells):
    sgd = [row for row in cells.get(1.0, []) if row["status"] == DONE]
    verdict = _compare_with_limit(study, cells, sgd)
    condition = theory.sde_condition(
        column(sgd, "gradient_noise") or [math.nan],
        column(sgd, "gradient_signal") or [math.nan],
        study.closeness,
    )
    return {
        "batch_size": batch_size,
        "learning_rate": study.facts.learning_rate_at(batch_size),
        "num_seeds": len(cells.get(1.0, [])),
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "measured_closeness": verdict.measured_closeness,
        "ratios": verdict.ratios,
        "necessary_condition": vars(condition),
    }


def _compare_with_limit(study, cells, sgd):
    def inconclusive(reason):
        unknown = Interval(math.nan, 1.0, math.inf)
        return Verdict(theory.INCONCLUSIVE, f"cannot be judged: {reason}", unknown, {})

    sampling = study.facts.sampling
    if sampling in theory.MODES_WITHOUT_SDE:
        return inconclusive(
            f"sampling={sampling!r} has no SDE limit to compare with. Use "
            "sampling='with_replacement'."
        )
    amplified = [ell for ell in cells if ell > 1]
    if len(amplified) < 2:
        return inconclusive(
            "extrapolating to the SDE takes at least two values of ell above 1. Add some to "
            "sde_validity.ells."
        )
    small, large = amplified[-2:]
    pairs = pair_by_seed(cells[small], cells[large])
    if len(sgd) < 2 or len(pairs) < 2:
        return inconclusive(
            "fewer than two seeds finished, so there are no intervals. Use num_seeds >= 2, or a "
            "lower learning rate if runs diverged."
        )
    limit = {
        name: theory.extrapolate(
            small, [a[name] for a, _ in pairs], large, [b[name] for _, b in pairs]
        )
        for name in theory.QUANTITIES
    }
    values = {name: np.array(column(sgd, name)) for name in theory.QUANTITIES}
    return study.decide(values, limit, confidence_per_look(study))
