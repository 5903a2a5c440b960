"""Recommendations that follow from the verdict."""

import math

from keras_svag.studies.base.wording import (
    add_sizes,
    batch_sizes,
    flag,
    hyperparameter,
    on_failed_runs,
    run_again,
)


def recommend(study, verdict):
    """Returns sentences on what to do next, given `verdict.json` as JSON holds it."""
    settings, base = verdict["settings"], verdict["base_batch_size"]
    observed = verdict["observed_max_kappa"]
    if observed["value"] is None:
        return [f"Find a learning rate at which runs at batch size {base} do not diverge."]
    steps = [_scale_by(observed["value"], settings, base, study)]
    undecided = [s["batch_size"] for s in settings if s["kappa"] in observed["inconclusive"]]
    if observed["first_failure"] is not None or not undecided:
        steps.append(
            _locate_limit(study, verdict, base * observed["value"], observed["first_failure"])
        )
    # More seeds do not make up for runs that fail.
    failing = {s["batch_size"] for s in settings if s.get("failed")}
    undecided = [] if base in failing else [b for b in undecided if b not in failing]
    if undecided:
        seeds = 2 * study.num_seeds
        flags = flag(study, "num_seeds", seeds)
        if seeds > study.max_num_seeds:
            flags += f" {flag(study, 'max_num_seeds', seeds)}"
        steps.append(run_again(undecided, flags, "more seeds narrow the intervals", "outcome"))
    if sizes := verdict["not_in_equilibrium"]:
        if study.facts.weight_decay and study.facts.decays_all_weights:
            epochs = hyperparameter(study, "epochs", f"{2 * study.facts.epochs:g}")
            remedy = (
                "so the means describe a transient. Train longer, for example with "
                f"{epochs}, in a new workdir."
            )
        elif study.facts.weight_decay:
            remedy = "since not all weights decay. The bound is only a rough guide."
        else:
            remedy = "because without weight decay there is none. The bound is only a rough guide."
        steps.append(f"At {batch_sizes(sizes)}, equilibrium was not reached, {remedy}")
    if verdict["comparison"]["bound_holds"] is False:
        steps.append(
            "The rule held beyond the bound, so the assumptions of the theorem cannot all hold: "
            "check the list below."
        )
    return steps + on_failed_runs(study, verdict)


def _scale_by(kappa, settings, base, study):
    if kappa == 1:
        return (
            f"Stay at batch size {base}: no larger batch size in this sweep was shown to match it."
        )
    before, after = (
        next(setting for setting in settings if setting["kappa"] == number) for number in (1, kappa)
    )
    step = (
        f"You can replace batch size {base} and learning rate {before['learning_rate']:g} by batch "
        f"size {after['batch_size']} and learning rate {after['learning_rate']:g}."
    )
    if not study.facts.is_plain_sgd:
        step += (
            " Scale the other hyperparameters too: keras_svag.scale_optimizer(optimizer, "
            f"{kappa:g}, rule={study.facts.rule!r}) returns the scaled optimizer."
        )
    return step


def _locate_limit(study, verdict, largest, first_failure):
    base = verdict["base_batch_size"]
    if first_failure is not None:
        return (
            f"The rule stops holding between batch sizes {largest:g} and {base * first_failure:g}. "
            f"{add_sizes('in between', study)} to see where."
        )
    add = add_sizes("larger than these", study)
    step = f"No batch size failed, so the limit of the rule is still unknown. {add.rstrip(',')}."
    bound = verdict["predicted_max_kappa"]["tight"]["ci_high"]
    is_bound = study.facts.is_plain_sgd and base not in verdict["not_in_equilibrium"]
    if is_bound and bound is not None and verdict["comparison"]["bound_holds"] is not False:
        step += f" By the bound, the limit lies below {math.ceil(bound * base)}."
    return step
