"""Recommendations that follow from the branches."""

from keras_svag.studies.base.wording import flag, on_failed_runs, run_again


def recommend(study, verdict):
    """Returns sentences on what to do next, given `verdict.json` as JSON holds it."""
    settings, observed = verdict["settings"], verdict["observed_max_kappa"]
    if observed["value"] is None:
        base = verdict["base_batch_size"]
        return [f"Find a learning rate at which runs at batch size {base} do not diverge."]
    steps = [_raise_to(observed["value"], settings, verdict)]
    undecided = [s for s in settings if s["kappa"] in observed["inconclusive"]]
    if observed["first_failure"] is None and not undecided:
        factors = flag(study, f"{study.name}.factors")
        steps.append(
            "No branch failed, so the critical batch size is still unknown. Add larger factors to "
            f"{factors}, on the same workdir."
        )
    # More seeds do not make up for runs that fail.
    sizes = [s["batch_size"] for s in undecided if not s["failed"]]
    if sizes and not settings[0]["failed"]:
        seeds = flag(study, "num_seeds", 2 * study.num_seeds)
        steps.append(run_again(sizes, seeds, "more seeds narrow the intervals", "outcome"))
    return steps + on_failed_runs(study, verdict)


def _raise_to(kappa, settings, verdict):
    base = verdict["base_batch_size"]
    if kappa == 1:
        return f"Stay at batch size {base}: no larger one was shown to train as well from here on."
    [best] = [setting for setting in settings if setting["kappa"] == kappa]
    return (
        f"From step {verdict['branch_step']} on, you can train at batch size {best['batch_size']} "
        f"with learning rate {best['learning_rate']:g} and the other hyperparameters of "
        f"keras_svag.scale_optimizer(optimizer, {kappa:g}). Measure again later in the run: the "
        "critical batch size mostly grows."
    )
