"""Recommendations that follow from the verdict."""

from keras_svag.studies.base.wording import flag, on_failed_runs
from keras_svag.studies.weak_convergence.linear_errors import read_interval
from keras_svag.studies.weak_convergence.network_errors import outcome_of
from keras_svag.theory.outcomes import FAILS, INCONCLUSIVE

# Chance reaches this many standard errors once in 16,000 times.
SUSPICIOUS_SCORE = 4.0


def recommend(study, details):
    """Returns sentences on what to do next, given `verdict.json` as JSON holds it."""
    steps = []
    scores = [abs(score) for row in details["simulated"] for score in row["scores"]]
    if max(scores, default=0.0) > SUSPICIOUS_SCORE:
        steps.append(
            "The train step deviates from the exact recursion by more than chance explains. Find "
            "the cause before you trust any other study on this machine."
        )
    outcomes = [outcome_of(read_interval(row["order"])) for row in details["network"]]
    if not outcomes or INCONCLUSIVE in outcomes:
        seeds = 2 * study.num_seeds
        steps.append(
            "For some quantity of the network the errors are too small to tell their order. Run "
            f"the study again with {flag(study, 'num_seeds', seeds)} "
            f"{flag(study, 'max_num_seeds', seeds)} on the "
            "same workdir."
        )
    if FAILS in outcomes:
        steps.append(
            "An order that is not near 1 is not an error in itself: the theorem is about small "
            "steps and smooth losses. Add larger ell to "
            f"{flag(study, 'weak_convergence.ells')}."
        )
    steps.append("To see whether the SDE models your own training, run trainers.sde_validity.")
    return steps + on_failed_runs(study, details)
