"""What somebody who has read the verdict can do next."""

from keras_svag.studies.base.sentences import batch_sizes, flag, on_failed_runs
from keras_svag.theory import DIFFERENT, EQUIVALENT, INCONCLUSIVE


def recommend(study, verdict):
    """Sentences on what to do next.

    Args:
        study: a `NoisyGradientDescent`.
        verdict: the dict of `verdict.json`, as JSON holds it.

    Returns:
        A list of strings.
    """

    def sizes_of(word):
        return [e["batch_size"] for e in verdict["verdicts"] if e["verdict"] == word]

    steps = []
    if sizes := sizes_of(EQUIVALENT):
        steps.append(
            f"At {batch_sizes(sizes)}, the covariance of the gradient noise is all that matters "
            "here: models of SGD may take Gaussian noise."
        )
    if sizes := sizes_of(DIFFERENT):
        steps.append(
            f"At {batch_sizes(sizes)}, do not replace the noise of SGD by Gaussian noise. At a "
            "smaller batch size, with the learning rate in proportion, its shape matters less."
        )
    if sizes := sizes_of(INCONCLUSIVE):
        seeds = 2 * study.num_seeds
        steps.append(
            f"At {batch_sizes(sizes)}, the verdict is open. Run the study again with "
            f"{flag(study, f'{study.name}.num_seeds', seeds)} on the same workdir: finished runs "
            "are kept, and intervals become narrower."
        )
    return steps + on_failed_runs(study, verdict)
