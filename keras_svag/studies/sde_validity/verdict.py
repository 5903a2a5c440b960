"""The verdict on the SDE: SGD against the limit of SVAG, at each batch size."""

import dataclasses
import math

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.studies.base.criteria import check_columns
from keras_svag.studies.base.looks import look_number
from keras_svag.studies.base.table import (
    column,
    failed_runs,
    read_rows,
    summarize_quantities,
)
from keras_svag.studies.sde_validity.equilibrium import why_no_condition
from keras_svag.theory import Interval, SDEVerdict

WORST_FIRST = (theory.INVALID, theory.INCONCLUSIVE, theory.VALID)


def build_verdict(study, table, workdir):
    """Returns the dict of `verdict.json`; the study's verdict is that of its worst batch size."""
    check_columns(study.criteria, table)
    settings, verdicts, looks = [], [], {}
    for batch_size in study.batch_sizes:
        rows = [row for row in table if row["batch_size"] == batch_size]
        cells = {
            ell: [row for row in rows if row["ell"] == ell]
            for ell in sorted({row["ell"] for row in rows})
        }
        settings += [_summarize_cell(cell) for cell in cells.values()]
        looks[batch_size] = {f"{ell:g}": len(cell) for ell, cell in cells.items()}
        look = look_number(workdir, batch_size, looks[batch_size])
        verdicts.append(_judge_batch_size(study, batch_size, cells, look, workdir))
    worst = min(verdicts, key=lambda v: WORST_FIRST.index(v["verdict"]))
    return {
        "study": study.name,
        "verdict": worst["verdict"],
        "closeness": study.closeness,
        "confidence": theory.CONFIDENCE,
        "measured_closeness": worst["measured_closeness"],
        "necessary_condition": worst["necessary_condition"],
        "optimizer": study.facts.optimizer,
        "premises": study.facts.assumptions(),
        "verdicts": verdicts,
        "settings": settings,
        "looks": looks,
        "failed_runs": failed_runs(table),
    }


def _summarize_cell(rows):
    summary = {name: rows[0][name] for name in ("batch_size", "learning_rate", "ell")}
    summary["num_seeds"] = len(column(rows, "seed"))
    summary["failed"] = len(rows) - summary["num_seeds"]
    return summary | summarize_quantities(rows) if summary["num_seeds"] else summary


def _judge_batch_size(study, batch_size, cells, look, workdir):
    found = _judge(study, cells, look)
    sgd = cells.get(1.0, [])
    condition = theory.sde_condition(
        column(sgd, "gradient_noise") or [math.nan],
        column(sgd, "gradient_signal") or [math.nan],
        study.closeness,
    )
    names = column(sgd, "name")
    histories = [read_rows(workdir, name) for name in names]
    not_applied = "No run of SGD finished."
    if histories:
        not_applied = why_no_condition(histories, study.facts, batch_size, study.window)
    if not_applied:
        condition = dataclasses.replace(condition, holds=None)
    return {
        "batch_size": batch_size,
        "learning_rate": study.facts.learning_rate_at(batch_size),
        "num_seeds": len(sgd),
        "look": look,
        "verdict": found.verdict,
        "reason": found.reason,
        "remedy": found.remedy,
        "measured_closeness": found.measured_closeness,
        "ratios": found.ratios,
        "extrapolations": {
            quantity: [dataclasses.asdict(e) | {"limit": e.limit} for e in pairs]
            for quantity, pairs in found.extrapolations.items()
        },
        "finished": {f"{ell:g}": count for ell, count in found.finished.items()},
        "failed": {f"{ell:g}": count for ell, count in found.failed.items() if count},
        "necessary_condition": vars(condition),
        "condition_not_applied": not_applied,
    }


def _judge(study, cells, look):
    sampling = study.facts.sampling
    if sampling in theory.MODES_WITHOUT_SDE:
        reason = (
            f"cannot be judged: sampling={sampling!r} has no SDE limit to compare with. Use "
            "sampling='with_replacement'."
        )
        return SDEVerdict(
            theory.INCONCLUSIVE, reason, Interval(math.nan, 1.0, math.inf), {}, {}, {}, {}
        )
    values = {
        quantity: {
            ell: [row[quantity] if row["status"] == DONE else math.nan for row in rows]
            for ell, rows in cells.items()
        }
        for quantity in study.quantities()
    }
    return study.decide(values, look)
