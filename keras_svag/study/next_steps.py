"""What somebody who has read the verdict of a study can do next: a few sentences for the report."""

import math

from keras_svag import theory
from keras_svag._words import join
from keras_svag.study.optimizer import is_plain_sgd

# Chance reaches this many standard errors once in 16,000 times.
SUSPICIOUS_SCORE = 4.0


def next_steps(verdict, config):
    """What to do next.

    Args:
        verdict: the dict of `verdict.json`, as JSON holds it.
        config: the validated config of that study.

    Returns:
        A list of strings, each a sentence or two.
    """
    steps = STUDIES[verdict["study"]](verdict, config)
    if verdict["failed_runs"]:
        failed = len(verdict["failed_runs"])
        steps.append(
            f"{failed} run{'s' * (failed > 1)} failed. Against divergence a lower "
            "--config.learning_rate helps, on another workdir."
        )
    return steps


def _sde_validity(verdict, config):
    def sizes_of(word, judged=True):
        return [
            entry["batch_size"]
            for entry in verdict["verdicts"]
            if entry["verdict"] == word and bool(entry["ratios"]) == judged
        ]

    valid, invalid = sizes_of(theory.VALID), sizes_of(theory.INVALID)
    undecided, not_judged = (sizes_of(theory.INCONCLUSIVE, judged) for judged in (True, False))
    steps = []
    if valid:
        steps.append(
            f"At {_sizes(valid)}, conclusions from the SDE may be used, such as scaling batch size "
            "and learning rate together. How far that goes, the study trainers.linear_scaling "
            "measures."
        )
    if invalid:
        steps.append(
            f"At {_sizes(invalid)}, do not argue from the SDE. A smaller batch size, with the "
            "learning rate scaled along, comes nearer to it."
        )
    if valid and invalid and max(valid) < min(invalid):
        steps.append(
            f"Somewhere between batch sizes {max(valid)} and {min(invalid)} the SDE stops being a "
            f"model. {_add_sizes('in between', verdict)} to see where."
        )
    if undecided:
        steps.append(
            f"At {_sizes(undecided)}, the verdict is open. Give the same command with "
            f"--config.max_num_seeds={2 * config['max_num_seeds']} on the same workdir: finished "
            "runs are kept, and seeds are added until it is clear."
        )
    if not_judged:
        steps.append(
            f"At {_sizes(not_judged)}, there was nothing to compare. Mend what the verdict names."
        )
    return steps


def _linear_scaling(verdict, config):
    settings, base = verdict["settings"], verdict["base_batch_size"]
    observed = verdict["observed_max_kappa"]
    if observed["value"] is None:
        return [f"Find a learning rate at which runs at batch size {base} do not diverge."]
    steps = [_use(settings, observed["value"], base, config)]
    open_sizes = [s["batch_size"] for s in settings if s["kappa"] in observed["inconclusive"]]
    if observed["first_failure"] is not None or not open_sizes:
        steps.append(_find_the_end(verdict, base * observed["value"], observed["first_failure"]))
    if open_sizes:
        seeds = 2 * config["num_seeds"]
        flags = f"--config.num_seeds={seeds}"
        if seeds > config["max_num_seeds"]:
            flags += f" --config.max_num_seeds={seeds}"
        steps.append(
            f"At {_sizes(open_sizes)}, the outcome is open. Give the same command with {flags} on "
            "the same workdir: finished runs are kept, and intervals become narrower."
        )
    if verdict["not_in_equilibrium"]:
        steps.append(_reach_equilibrium(verdict["not_in_equilibrium"], config))
    if verdict["comparison"]["bound_holds"] is False:
        steps.append(
            "The rule held beyond the bound, which a theorem forbids where its premises hold. Look "
            "below which of them do not."
        )
    return steps


def _use(settings, kappa, base, config):
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
    if not is_plain_sgd(config):
        rule = config["optimizer"].get("rule")
        named = f", rule={rule!r}" if rule else ""
        step += (
            " The other hyperparameters go along: keras_svag.scale_optimizer(optimizer, "
            f"{kappa:g}{named}) gives that optimizer."
        )
    return step


def _find_the_end(verdict, largest, first_failure):
    if first_failure is not None:
        failed = verdict["base_batch_size"] * first_failure
        return (
            f"The rule ends between batch sizes {largest:g} and {failed:g}. "
            f"{_add_sizes('in between', verdict)} to see where."
        )
    add = _add_sizes("larger than these", verdict)
    step = f"No batch size failed, so the end of the rule was not seen. {add.rstrip(',')}."
    bound = verdict["predicted_max_kappa"]["tight"]["ci_high"]
    if bound is not None and verdict["comparison"]["bound_holds"] is not False:
        limit = math.ceil(bound * verdict["base_batch_size"])
        step += f" By the bound, the end lies below {limit}."
    return step


def _reach_equilibrium(batch_sizes, config):
    start = f"At {_sizes(batch_sizes)}, equilibrium was not reached"
    if not config["weight_decay"]:
        return f"{start}: without weight decay there is none, and the bound is a rough guide only."
    return (
        f"{start}: the means are of training under way. Train longer, as with "
        f"--config.epochs={2 * config['epochs']:g}, on another workdir."
    )


def _noisy_gradient_descent(verdict, config):
    def sizes_of(word):
        return [e["batch_size"] for e in verdict["verdicts"] if e["verdict"] == word]

    steps = []
    if sizes := sizes_of(theory.EQUIVALENT):
        steps.append(
            f"At {_sizes(sizes)}, the covariance of the gradient noise is all that matters here: "
            "models of SGD may take Gaussian noise."
        )
    if sizes := sizes_of(theory.DIFFERENT):
        steps.append(
            f"At {_sizes(sizes)}, do not replace the noise of SGD by Gaussian noise. At a smaller "
            "batch size, with the learning rate in proportion, its shape matters less."
        )
    if sizes := sizes_of(theory.INCONCLUSIVE):
        seeds = 2 * config[verdict["study"]]["num_seeds"]
        steps.append(
            f"At {_sizes(sizes)}, the verdict is open. Give the same command with "
            f"--config.{verdict['study']}.num_seeds={seeds} on the same workdir: finished runs are "
            "kept, and intervals become narrower."
        )
    return steps


def _weak_convergence(verdict, config):
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
            "For some quantity of the network the errors are too small to give an order. Give the "
            f"same command with --config.num_seeds={2 * config['num_seeds']} "
            f"--config.max_num_seeds={2 * config['num_seeds']} on the same workdir."
        )
    if any(order and not order["ci_low"] <= 1 <= order["ci_high"] for order in orders):
        steps.append(
            "An order whose interval does not hold 1 is no fault by itself: the theorem is about "
            "small steps and smooth losses. Add larger ell to --config.weak_convergence.ells."
        )
    steps.append(
        "To ask whether the SDE models a training run of your own, use the study "
        "trainers.sde_validity."
    )
    return steps


def _sizes(batch_sizes):
    plural = "s" if len(batch_sizes) > 1 else ""
    return f"batch size{plural} {join([str(size) for size in batch_sizes])}"


def _add_sizes(which, verdict):
    return f"Add sizes {which} to --config.{verdict['study']}.batch_sizes, on the same workdir,"


STUDIES = {
    "sde_validity": _sde_validity,
    "linear_scaling": _linear_scaling,
    "noisy_gradient_descent": _noisy_gradient_descent,
    "weak_convergence": _weak_convergence,
}
