"""What somebody who has read the verdict can do next."""

import math

from keras_svag.studies.base.sentences import (
    add_sizes,
    batch_sizes,
    flag,
    hyperparameter,
    on_failed_runs,
)


def recommend(study, verdict):
    """Sentences on what to do next.

    Args:
        study: a `LinearScaling`.
        verdict: the dict of `verdict.json`, as JSON holds it.

    Returns:
        A list of strings.
    """
    settings, base = verdict["settings"], verdict["base_batch_size"]
    observed = verdict["observed_max_kappa"]
    if observed["value"] is None:
        return [f"Find a learning rate at which runs at batch size {base} do not diverge."]
    steps = [_use(settings, observed["value"], base, study)]
    open_sizes = [s["batch_size"] for s in settings if s["kappa"] in observed["inconclusive"]]
    if observed["first_failure"] is not None or not open_sizes:
        steps.append(
            _find_the_end(study, verdict, base * observed["value"], observed["first_failure"])
        )
    if open_sizes:
        seeds = 2 * study.num_seeds
        flags = flag(study, "num_seeds", seeds)
        if seeds > study.max_num_seeds:
            flags += f" {flag(study, 'max_num_seeds', seeds)}"
        steps.append(
            f"At {batch_sizes(open_sizes)}, the outcome is open. Run the study again with "
            f"{flags} on the same workdir: finished runs are kept, and intervals become narrower."
        )
    if verdict["not_in_equilibrium"]:
        steps.append(_reach_equilibrium(verdict["not_in_equilibrium"], study))
    if verdict["comparison"]["bound_holds"] is False:
        steps.append(
            "The rule held beyond the bound, which a theorem forbids where its assumptions hold. "
            "See below which of them do not."
        )
    return steps + on_failed_runs(study, verdict)


def _use(settings, kappa, base, study):
    if kappa == 1:
        return (
            f"Stay at batch size {base}: no larger one of this sweep was shown to train as it does."
        )
    before, after = (
        next(row for row in settings if row["kappa"] == number) for number in (1, kappa)
    )
    step = (
        f"Batch size {after['batch_size']} with learning rate {after['learning_rate']:g} may take "
        f"the place of batch size {base} with learning rate {before['learning_rate']:g}."
    )
    if not study.facts.is_plain_sgd:
        named = f", rule={study.facts.rule!r}"
        step += (
            " The other hyperparameters go along: keras_svag.scale_optimizer(optimizer, "
            f"{kappa:g}{named}) gives that optimizer."
        )
    return step


def _find_the_end(study, verdict, largest, first_failure):
    if first_failure is not None:
        failed = verdict["base_batch_size"] * first_failure
        return (
            f"The rule ends between batch sizes {largest:g} and {failed:g}. "
            f"{add_sizes('in between', study)} to see where."
        )
    add = add_sizes("larger than these", study)
    step = f"No batch size failed, so the end of the rule was not seen. {add.rstrip(',')}."
    bound = verdict["predicted_max_kappa"]["tight"]["ci_high"]
    if bound is not None and verdict["comparison"]["bound_holds"] is not False:
        limit = math.ceil(bound * verdict["base_batch_size"])
        step += f" By the bound, the end lies below {limit}."
    return step


def _reach_equilibrium(sizes, study):
    start = f"At {batch_sizes(sizes)}, equilibrium was not reached"
    if not study.facts.weight_decay:
        return f"{start}: without weight decay there is none, and the bound is a rough guide only."
    epochs = hyperparameter(study, "epochs", f"{2 * study.facts.epochs:g}")
    return (
        f"{start}: the means are of training under way. Train longer, as with {epochs}, on another "
        "workdir."
    )
