"""What somebody who has read the verdict can do next."""

from keras_svag.studies.base.sentences import flag, on_failed_runs

# Chance reaches this many standard errors once in 16,000 times.
SUSPICIOUS_SCORE = 4.0


def recommend(study, verdict):
    """Sentences on what to do next.

    Args:
        study: a `WeakConvergence`.
        verdict: the dict of `verdict.json`, as JSON holds it.

    Returns:
        A list of strings.
    """
    steps = []
    scores = [abs(score) for row in verdict["simulated"] for score in row["scores"]]
    if max(scores, default=0.0) > SUSPICIOUS_SCORE:
        steps.append(
            "The train step is off the exact recursion by more than chance explains. Look for a "
            "fault before you trust any other study on this machine."
        )
    orders = [row["order"] for row in verdict["network"]]
    if not orders or None in orders:
        steps.append(
            "For some quantity of the network the errors are too small to give an order. Run the "
            f"study again with {flag(study, 'num_seeds', 2 * study.num_seeds)} "
            f"{flag(study, 'max_num_seeds', 2 * study.num_seeds)} on the same workdir."
        )
    if any(order and not order["ci_low"] <= 1 <= order["ci_high"] for order in orders):
        steps.append(
            "An order whose interval does not hold 1 is no fault by itself: the theorem is about "
            "small steps and smooth losses. Add larger ell to "
            f"{flag(study, 'weak_convergence.ells')}."
        )
    steps.append(
        "To ask whether the SDE models a training run of your own, use the study "
        "trainers.sde_validity."
    )
    return steps + on_failed_runs(study, verdict)
