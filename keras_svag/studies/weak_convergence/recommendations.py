"""Recommendations that follow from the verdict."""

from keras_svag.studies.base.wording import flag, on_failed_runs

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
    orders = [row["order"] for row in details["network"]]
    ends = [(order["ci_low"], order["ci_high"]) for order in orders]
    if not orders or any(None in pair for pair in ends):
        seeds = 2 * study.num_seeds
        steps.append(
            "For some quantity of the network the errors are too small to tell their order. Run "
            f"the study again with {flag(study, 'num_seeds', seeds)} "
            f"{flag(study, 'max_num_seeds', seeds)} on the "
            "same workdir."
        )
    if any((low is not None and low > 1) or (high is not None and high < 1) for low, high in ends):
        steps.append(
            "An order whose interval does not contain 1 is not an error in itself: the theorem is "
            "about small steps and smooth losses. Add larger ell to "
            f"{flag(study, 'weak_convergence.ells')}."
        )
    steps.append("To see whether the SDE models your own training, run trainers.sde_validity.")
    return steps + on_failed_runs(study, details)
