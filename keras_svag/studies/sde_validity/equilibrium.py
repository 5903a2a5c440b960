"""Decides if runs support a condition on N/G, which is about equilibrium."""

from keras_svag.theory.equilibrium.measurement import GIVEN, measure_window
from keras_svag.theory.sampling_modes import SHUFFLED_EPOCHS


def why_no_condition(histories, facts, batch_size, window):
    """Returns the reason why N/G of SGD runs supports no condition, `None` if it supports one."""
    # `histories`: the records of each run at one batch size. `window`: the two fractions of the run
    # over which N and G are averaged.
    if facts.sampling == SHUFFLED_EPOCHS:
        # The balance of R is about |g|^2, hence N and G as logged (docs/theory_conditions.md, 1.3).
        return "Under shuffled epochs G is corrected, and the condition is about G as logged."
    if not facts.weight_decay:
        return "Without weight decay there is no equilibrium."
    if not facts.decays_all_weights:
        return "The condition is about weight decay of all weights, and some are excluded."
    decay, total = facts.weight_decay_at(batch_size), facts.steps_at(batch_size)
    found = measure_window(histories, total, window, decay, mode=GIVEN)
    if found.reached is None:
        return found.reason
    return None if found.reached else f"Equilibrium not reached. {found.reason}"
