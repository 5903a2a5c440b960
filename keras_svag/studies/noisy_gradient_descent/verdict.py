"""The verdict: do SGD and NGD, and the other pairs of methods, lead to the same means?"""

import itertools
import math

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.studies.base.criteria import check_columns, parse_criteria
from keras_svag.studies.base.looks import look_number
from keras_svag.studies.base.table import column, failed_runs, final_columns
from keras_svag.theory import EQUIVALENT, INCONCLUSIVE, Criterion, Interval

# The quantities compared: means over the window, and values at the end.
TITLES = {
    "weight_norm": "R (window)",
    "train_loss": "train loss (window)",
    "test_loss": "test loss (window)",
    "final_train_loss": "train loss (end)",
    "final_test_loss": "test loss (end)",
}


def build_verdict(study, arms, workdir):
    """Returns the dict of `verdict.json` from the arms, with their rows attached."""
    check_columns(study.criteria, [row for arm in arms for row in arm["rows"]])
    comparisons, verdicts, looks = [], [], {}
    for batch_size, margin in zip(study.batch_sizes, study.margins):
        candidates = [arm for arm in arms if arm["batch_size"] == batch_size]
        # What the verdict rests on: methods that are added later are no other look at these.
        judged = [arm for arm in candidates if arm["method"] in ("SGD", "NGD")]
        looks[batch_size] = {arm["method"]: len(arm["rows"]) for arm in judged}
        look = look_number(workdir, batch_size, looks[batch_size])
        for a, b in itertools.combinations(candidates, 2):
            # Same mean and covariance; or SGD itself against what approaches its SDE.
            if a["noise_steps"] != b["noise_steps"] and a["method"] != "SGD":
                continue
            found, rows = _compare_arms(study, a, b, margin, look)
            comparisons += rows
            if (a["method"], b["method"]) == ("SGD", "NGD"):
                verdicts.append(_describe_verdict(a, found, rows, look))
    # The last batch size that is not equivalent stands for the study.
    others = [v for v in verdicts if v["verdict"] != EQUIVALENT]
    return {
        "study": study.name,
        "verdict": (others or verdicts)[-1]["verdict"],
        "confidence": theory.CONFIDENCE,
        "verdicts": verdicts,
        "comparisons": comparisons,
        "settings": [_summarize_arm(arm) for arm in arms],
        "looks": looks,
        "failed_runs": failed_runs([row for arm in arms for row in arm["rows"]]),
    }


def _compare_arms(study, a, b, margin, look):
    """Returns the `NoiseVerdict` on two arms, and a row per quantity."""
    # Paired by seed: the methods share their initial weights.
    by_seed = {row["seed"]: row for row in b["rows"]}
    pairs = [(row, by_seed[row["seed"]]) for row in a["rows"] if row["seed"] in by_seed]
    quantities = _recorded(study, [row for pair in pairs for row in pair])
    first, second = (
        {q: [_value(pair[side], q) for pair in pairs] for q in quantities} for side in (0, 1)
    )
    criteria = parse_criteria(study.criteria)
    found = study.decide(first, second, margin, look)
    rows = []
    for quantity in quantities:
        criterion = criteria.get(quantity, Criterion(*found.limits))
        rows.append(
            {
                "batch_size": a["batch_size"],
                "first": a["method"],
                "second": b["method"],
                "quantity": quantity,
                "kind": criterion.kind,
                "num_seeds": found.num_pairs,
                "failed": found.failed,
                "outcome": found.outcomes.get(quantity, INCONCLUSIVE),
                "ratio": found.ratios.get(quantity, Interval(math.nan, 0.0, math.inf)),
                "limits": (criterion.low, criterion.high),
            }
        )
    return found, rows


def _recorded(study, rows):
    """Returns the quantities that finished runs have recorded, and those of criteria."""
    done = [row for row in rows if row["status"] == DONE]
    # A run in which one is not finite counts as failed: leaving it out would hide that.
    own = [q for q in TITLES if not done or any(math.isfinite(_value(row, q)) for row in done)]
    return own + [q for q in study.criteria or {} if q not in own]


def _value(row, quantity):
    return row.get(quantity, math.nan) if row["status"] == DONE else math.nan


def _describe_verdict(sgd, found, rows, look):
    """Returns the verdict on SGD against NGD at one batch size, in words too."""
    listed = ", ".join(
        f"{title_of(row['quantity'])} {row['kind']} {row['ratio'].mean:.3g}" for row in rows
    )
    word = {INCONCLUSIVE: "neither told apart nor shown to be equivalent"}.get(
        found.verdict, found.verdict
    )
    reason = f"{word} ({listed})."
    if found.failed:
        total = found.failed + found.num_pairs
        reason += f" With {found.failed} of {total} seeds, one of the two failed."
    return {
        "batch_size": sgd["batch_size"],
        "learning_rate": sgd["learning_rate"],
        "look": look,
        "verdict": found.verdict,
        "reason": reason,
    }


def title_of(quantity):
    """The title of a quantity, or its name without underscores."""
    return TITLES.get(quantity, quantity.replace("_", " "))


def _summarize_arm(arm):
    rows = arm["rows"]
    summary = {name: arm[name] for name in ("batch_size", "learning_rate", "method")}
    summary["num_seeds"] = len(column(rows, "seed"))
    summary["failed"] = len(rows) - summary["num_seeds"]
    if summary["num_seeds"]:
        for name in TITLES:
            if all(name in row for row in rows if row["status"] == DONE):
                summary[name] = theory.mean_interval(column(rows, name))
        for name in final_columns(rows):
            if name not in ("train_loss", "test_loss"):
                summary[name] = theory.mean_interval(column(rows, f"final_{name}"))
    return summary
