"""The verdict: which methods are equivalent, by the ratio of what they lead to."""

import itertools
import math

from keras_svag.engine.execution import DONE
from keras_svag.studies.base.table import column, failed_runs, final_columns, pair_by_seed
from keras_svag.theory import DIFFERENT, EQUIVALENT, INCONCLUSIVE, compare, mean_interval
from keras_svag.theory.statistics.equivalence import EQUIVALENCE_CONFIDENCE

# Means over the window, and values at the end.
QUANTITIES = ("weight_norm", "train_loss", "test_loss", "final_train_loss", "final_test_loss")
TITLES = {
    "weight_norm": "R (window)",
    "train_loss": "train loss (window)",
    "test_loss": "test loss (window)",
    "final_train_loss": "train loss (end)",
    "final_test_loss": "test loss (end)",
}


def build_verdict(study, arms):
    """The dict of `verdict.json`.

    Args:
        study: a `NoisyGradientDescent`.
        arms: what `arms.with_rows` gave.

    Returns:
        A dict: `verdict` on SGD against NGD (`"equivalent"`, `"different"` or `"inconclusive"`,
        the last batch size's that is not equivalent), one for each batch size under `verdicts`,
        every comparison under `comparisons`, every method under `settings`.
    """
    comparisons, verdicts = [], []
    for batch_size, margin in zip(study.batch_sizes, study.margins):
        of_size = [arm for arm in arms if arm["batch_size"] == batch_size]
        pairs = [
            (a, b)
            for a, b in itertools.combinations(of_size, 2)
            # Same mean and covariance; or SGD itself against what approaches its SDE.
            if a["noise_steps"] == b["noise_steps"] or a["method"] == "SGD"
        ]
        found = [row for a, b in pairs for row in _compare_arms(a, b, margin)]
        comparisons += found
        verdicts.append(_judge(of_size[0], found))
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
    # Seed by seed: the methods share initial weights and the fixed last layer.
    pairs = pair_by_seed(a["rows"], b["rows"])
    rows = [row for pair in pairs for row in pair]
    recorded = [q for q in QUANTITIES if not any(math.isnan(r.get(q, math.nan)) for r in rows)]
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
    """Verdict on SGD against NGD at one batch size."""
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
        for name in QUANTITIES:
            if all(name in row for row in rows if row["status"] == DONE):
                summary[name] = mean_interval(column(rows, name))
        for name in final_columns(rows):
            if name not in ("train_loss", "test_loss"):
                summary[name] = mean_interval(column(rows, f"final_{name}"))
    return summary
