"""Recommendations that follow from the verdict."""

from keras_svag.studies.base.sentences import add_sizes, batch_sizes, flag, on_failed_runs
from keras_svag.theory import INCONCLUSIVE, INVALID, VALID


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
    if undecided := sizes_of(INCONCLUSIVE):
        steps.append(
            f"At {batch_sizes(undecided)}, the verdict is inconclusive. Run the study again "
            f"with {flag(study, 'max_num_seeds', 2 * study.max_num_seeds)} on the same workdir: "
            "finished runs are kept, and seeds are added until the verdict is clear."
        )
    if not_judged := sizes_of(INCONCLUSIVE, has_ratios=False):
        steps.append(
            f"At {batch_sizes(not_judged)}, there was nothing to compare. Fix the problem named in "
            "the verdict."
        )
    return steps + on_failed_runs(study, details)
