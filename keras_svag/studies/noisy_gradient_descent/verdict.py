"""The verdict: equivalence tests on ratios of the quantities that the methods lead to."""

import itertools
import math

from keras_svag.engine.execution import DONE
from keras_svag.studies.base.table import column, failed_runs, final_columns, pair_by_seed
from keras_svag.theory import DIFFERENT, EQUIVALENT, INCONCLUSIVE, compare, mean_interval
from keras_svag.theory.statistics.equivalence import EQUIVALENCE_CONFIDENCE

# The quantities compared: means over the window, and values at the end.
TITLES = {
    "weight_norm": "R (window)",
    "train_loss": "train loss (window)",
    "test_loss": "test loss (window)",
    "final_train_loss": "train loss (end)",
    "final_test_loss": "test loss (end)",
}


def build_verdict(study, arms):
    """Returns the dict of `verdict.json` from the arms, with their rows attached."""
    comparisons, verdicts = [], []
    for batch_size, margin in zip(study.batch_sizes, study.margins):
        candidates = [arm for arm in arms if arm["batch_size"] == batch_size]
        rows = [
            row
            for a, b in itertools.combinations(candidates, 2)
            # Same mean and covariance; or SGD itself against what approaches its SDE.
            if a["noise_steps"] == b["noise_steps"] or a["method"] == "SGD"
            for row in _compare_arms(a, b, margin)
        ]
        comparisons += rows
        verdicts.append(_judge(candidates[0], rows))
    # The last batch size that is not equivalent stands for the study.
    others = [v for v in verdicts if v["verdict"] != EQUIVALENT]
    return {
        "study": study.name,
        "verdict": (others or verdicts)[-1]["verdict"],
        "confidence": EQUIVALENCE_CONFIDENCE,
        "verdicts": verdicts,
        "comparisons": comparisons,
        "settings": [_summarize_arm(arm) for arm in arms],
        "failed_runs": failed_runs([row for arm in arms for row in arm["rows"]]),
    }


def _compare_arms(a, b, margin):
    # Paired by seed: the methods share their initial weights.
    pairs = pair_by_seed(a["rows"], b["rows"])
    rows = [row for pair in pairs for row in pair]
    recorded = [q for q in TITLES if not any(math.isnan(r.get(q, math.nan)) for r in rows)]
    for quantity in recorded:
        first, second = ([pair[i][quantity] for pair in pairs] for i in (0, 1))
        yield {
            "batch_size": a["batch_size"],
            "first": a["method"],
            "second": b["method"],
            "quantity": quantity,
            "num_seeds": len(pairs),
            **vars(compare(first, second, margin, paired=True)),
        }


def _judge(sgd, comparisons):
    """Returns the verdict on SGD against NGD at one batch size."""
    rows = [row for row in comparisons if (row["first"], row["second"]) == ("SGD", "NGD")]
    outcomes = {row["outcome"] for row in rows}
    listed = ", ".join(f"{TITLES[row['quantity']]} ratio {row['ratio'].mean:.3g}" for row in rows)
    if DIFFERENT in outcomes:
        verdict, word = DIFFERENT, "different"
    elif outcomes == {EQUIVALENT}:
        verdict, word = EQUIVALENT, "equivalent"
    else:
        verdict, word = INCONCLUSIVE, "neither told apart nor shown to be equivalent"
    return {
        "batch_size": sgd["batch_size"],
        "learning_rate": sgd["learning_rate"],
        "verdict": verdict,
        "reason": f"{word} ({listed}).",
    }


def _summarize_arm(arm):
    rows = arm["rows"]
    summary = {name: arm[name] for name in ("batch_size", "learning_rate", "method")}
    summary["num_seeds"] = len(column(rows, "seed"))
    if summary["num_seeds"]:
        for name in TITLES:
            if all(name in row for row in rows if row["status"] == DONE):
                summary[name] = mean_interval(column(rows, name))
        for name in final_columns(rows):
            if name not in ("train_loss", "test_loss"):
                summary[name] = mean_interval(column(rows, f"final_{name}"))
    return summary
