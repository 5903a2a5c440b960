"""Recommendations that follow from the verdict."""

from keras_svag.studies.base.wording import (
    add_sizes,
    batch_sizes,
    flag,
    on_failed_runs,
    run_again,
)
from keras_svag.theory import INCONCLUSIVE, INVALID, VALID
from keras_svag.theory.verdicts.sde import LARGER_ELL


def recommend(study, details):
    """Returns sentences on what to do next, given `verdict.json` as JSON holds it."""

    def sizes_of(verdict, has_ratios=True):
        return [
            entry["batch_size"]
            for entry in details["verdicts"]
            if entry["verdict"] == verdict and bool(entry["ratios"]) == has_ratios
        ]

    valid, invalid = sizes_of(VALID), sizes_of(INVALID)
    steps = []
    if valid:
        steps.append(
            f"At {batch_sizes(valid)}, you can rely on the SDE, for example to scale batch size "
            "and learning rate together. Run trainers.linear_scaling to see how far."
        )
    if invalid:
        steps.append(
            f"At {batch_sizes(invalid)}, do not rely on the SDE. A smaller batch size, with the "
            "learning rate scaled accordingly, is closer to it."
        )
    if valid and invalid and max(valid) < min(invalid):
        steps.append(
            f"The SDE stops being valid between batch sizes {max(valid)} and {min(invalid)}. "
            f"{add_sizes('in between', study)} to see where."
        )
    changes: dict[str, list[int]] = {}
    for entry in details["verdicts"]:
        if entry["verdict"] == INCONCLUSIVE and entry["ratios"] and entry["remedy"]:
            changes.setdefault(_change(study, entry), []).append(entry["batch_size"])
    for change, sizes in changes.items():
        steps.append(run_again(sizes, change, "more are added until it is clear"))
    if not_judged := sizes_of(INCONCLUSIVE, has_ratios=False):
        steps.append(
            f"At {batch_sizes(not_judged)}, there was nothing to compare. Fix the problem named in "
            "the verdict."
        )
    return steps + on_failed_runs(study, details)


def _change(study, entry):
    """The field that allows a larger ell or more seeds, whichever is likely to settle a verdict."""
    if entry["remedy"] == LARGER_ELL:
        largest = max(map(float, entry["finished"]))
        return flag(study, f"{study.name}.max_ell", f"{2 * largest:g}")
    return flag(study, "max_num_seeds", 2 * study.max_num_seeds)
