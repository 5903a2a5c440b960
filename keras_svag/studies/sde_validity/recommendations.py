"""What somebody who has read the verdict can do next."""

from keras_svag.studies.base.sentences import add_sizes, batch_sizes, flag, on_failed_runs
from keras_svag.theory import INCONCLUSIVE, INVALID, VALID


def recommend(study, details):
    """Sentences on what to do next.

    Args:
        study: an `SDEValidity`.
        details: the dict of `verdict.json`, as JSON holds it.

    Returns:
        A list of strings.
    """

    def sizes_of(word, judged=True):
        return [
            entry["batch_size"]
            for entry in details["verdicts"]
            if entry["verdict"] == word and bool(entry["ratios"]) == judged
        ]

    valid, invalid = sizes_of(VALID), sizes_of(INVALID)
    undecided, not_judged = (sizes_of(INCONCLUSIVE, judged) for judged in (True, False))
    steps = []
    if valid:
        steps.append(
            f"At {batch_sizes(valid)}, conclusions from the SDE may be used, such as scaling batch "
            "size and learning rate together. How far that goes, the study "
            "trainers.linear_scaling measures."
        )
    if invalid:
        steps.append(
            f"At {batch_sizes(invalid)}, do not argue from the SDE. A smaller batch size, with the "
            "learning rate scaled along, comes nearer to it."
        )
    if valid and invalid and max(valid) < min(invalid):
        steps.append(
            f"Somewhere between batch sizes {max(valid)} and {min(invalid)} the SDE stops being a "
            f"model. {add_sizes('in between', study)} to see where."
        )
    if undecided:
        steps.append(
            f"At {batch_sizes(undecided)}, the verdict is open. Run the study again with "
            f"{flag(study, 'max_num_seeds', 2 * study.max_num_seeds)} on the same workdir: "
            "finished runs are kept, and seeds are added until it is clear."
        )
    if not_judged:
        steps.append(
            f"At {batch_sizes(not_judged)}, there was nothing to compare. Fix the problem named in "
            "the verdict."
        )
    return steps + on_failed_runs(study, details)
