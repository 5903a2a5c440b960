"""Recommendations that follow from the verdict."""

from keras_svag.studies.base.wording import batch_sizes, flag, on_failed_runs, run_again
from keras_svag.theory import DIFFERENT, EQUIVALENT, INCONCLUSIVE


def recommend(study, details):
    """Returns sentences on what to do next, given `verdict.json` as JSON holds it."""

    def sizes_of(verdict):
        return [e["batch_size"] for e in details["verdicts"] if e["verdict"] == verdict]

    steps = []
    if sizes := sizes_of(EQUIVALENT):
        steps.append(
            f"At {batch_sizes(sizes)}, only the covariance of the gradient noise matters: models "
            "of SGD can use Gaussian noise."
        )
    if sizes := sizes_of(DIFFERENT):
        steps.append(
            f"At {batch_sizes(sizes)}, do not replace the noise of SGD by Gaussian noise. Its "
            "shape matters less at a smaller batch size, with the learning rate in proportion."
        )
    if sizes := sizes_of(INCONCLUSIVE):
        seeds = flag(study, f"{study.name}.num_seeds", 2 * study.num_seeds)
        steps.append(run_again(sizes, seeds, "more seeds narrow the intervals"))
    return steps + on_failed_runs(study, details)
