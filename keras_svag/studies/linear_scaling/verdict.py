"""The verdict on the scaling rule: a prediction from the base runs, and each batch size."""

import math

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.studies.base.looks import look_number
from keras_svag.studies.base.table import WINDOW_COLUMNS, failed_runs, summarize_quantities
from keras_svag.studies.linear_scaling.bound import BASE_EQUILIBRIUM
from keras_svag.studies.linear_scaling.cells import VELOCITY_NORM
from keras_svag.studies.linear_scaling.judge import judge_cell
from keras_svag.theory.outcomes import HOLDS, observed_max_kappa
from keras_svag.theory.quantities import SCALED_NOISE, WEIGHT_NORM


def predict(study, base):
    """Returns the dict of `prediction.json`: the largest kappa by N and G of the base runs."""
    noise, signal = base.column("bound_noise"), base.column("bound_signal")
    unknown = theory.Interval(math.nan, -math.inf, math.inf)
    return {
        "study": study.name,
        "closeness": study.closeness,
        "base_batch_size": base.batch_size,
        "predicted_max_kappa": {
            form: theory.lsr_max_kappa(noise, signal, study.closeness, form) if noise else unknown
            for form in (theory.TIGHT, theory.PAPER)
        },
        "noise_to_signal": theory.ratio_of_means(noise, signal) if noise else unknown,
        "window": base.window.fractions,
        "runs": base.column("name"),
    }


def build_verdict(study, cells, workdir):
    """Returns the dict of `verdict.json` from a list of `Cell` in order of batch size."""
    base = next(cell for cell in cells if cell.kappa == 1)
    prediction = predict(study, base)
    looks = {cell.batch_size: _runs_of(cell, base) for cell in cells if cell is not base}
    settings = []
    for cell in cells:
        look = None
        if cell is not base:
            look = look_number(workdir, cell.batch_size, looks[cell.batch_size])
        outcome = judge_cell(study, cell, base, look)
        settings.append(_summarize_cell(cell, study) | {"look": look} | outcome)
    observed = observed_max_kappa(settings)
    predicted = prediction["predicted_max_kappa"]
    return {
        "study": study.name,
        "closeness": study.closeness,
        "confidence": theory.CONFIDENCE,
        "criterion": study.criterion,
        "tolerance": study.tolerance,
        "test_error_ratio": study.test_error_ratio,
        "base_batch_size": base.batch_size,
        "noise_to_signal": prediction["noise_to_signal"],
        "predicted_max_kappa": predicted,
        "observed_max_kappa": observed,
        "comparison": compare_with_bound(
            settings, observed, predicted[theory.TIGHT], study.facts.is_plain_sgd
        ),
        # The assumptions of the theorem: True, False, or `None` for not known.
        "premises": {
            **study.facts.assumptions(),
            "loss that does not depend on the batch size": study.facts.independent_of_batch,
            # How scale invariance shows in the runs.
            "R changes by what N, G and weight decay add and take": base.window.is_balanced,
            BASE_EQUILIBRIUM: base.window.reached,
        },
        "settings": settings,
        "looks": looks,
        "not_in_equilibrium": [
            cell.batch_size for cell in cells if cell.num_finished and not cell.window.reached
        ],
        "failed_runs": failed_runs([row for cell in cells for row in cell.rows]),
    }


def _runs_of(cell, base):
    """Returns the numbers of runs that a look at a batch size is based on, by batch size."""
    return {str(c.batch_size): len(c.rows) for c in (base, cell)}


def _summarize_cell(cell, study):
    window = cell.window
    summary = {
        "kappa": cell.kappa,
        "batch_size": cell.batch_size,
        "learning_rate": cell.learning_rate,
        "num_seeds": cell.num_finished,
        "failed": len(cell.rows) - cell.num_finished,
        "equilibrium": {
            "window": window.fractions,
            "reached": window.reached,
            "is_balanced": window.is_balanced,
            "drifts": window.drifts,
            "imbalance": window.imbalance,
            "reason": window.reason,
            "identity": _identity(cell, study.facts),
        },
    }
    if not cell.num_finished:
        return summary
    return summary | summarize_quantities(cell.rows, (*WINDOW_COLUMNS, SCALED_NOISE))


def _identity(cell, facts):
    """Returns R over what the steps sustain: 1 in equilibrium if the loss is scale invariant."""
    rate, decay = cell.learning_rate, facts.balancing_decay_at(cell.batch_size)
    if not cell.num_finished or not 0 < rate * decay < 1:
        return None
    if facts.is_plain_sgd:
        sustained = [
            theory.equilibrium_weight_norm(noise, signal, rate, decay)
            for noise, signal in zip(cell.column("bound_noise"), cell.column("bound_signal"))
        ]
    # A heavy ball. Runs begun by a version without this record have none.
    elif all(VELOCITY_NORM in row for row in cell.rows if row["status"] == DONE):
        momentum = facts.momentum_at(cell.batch_size)
        sustained = [
            theory.heavy_ball_weight_norm(velocity, rate, decay, momentum)
            for velocity in cell.column(VELOCITY_NORM)
        ]
    else:  # preconditioning balances R in another way
        return None
    return theory.ratio_of_means(cell.column(WEIGHT_NORM), sustained)


def compare_with_bound(settings, observed, tight, is_plain_sgd=True):
    """Returns `bound_holds` (`None` if undecided), `ratio` of kappa to the bound, and `reason`."""
    if observed["value"] is None or not math.isfinite(tight.mean):
        reason = "There is no bound to compare with: G of the base runs may be zero."
        if observed["value"] is None:
            reason = "No run at the base batch size finished, so there is no prediction."
        return {"bound_holds": None, "ratio": None, "reason": reason}
    # A batch size can hold beyond one that does not.
    largest = max((s["kappa"] for s in settings if s["outcome"] == HOLDS), default=1.0)
    largest = max(largest, observed["value"])
    ratio = observed["value"] / tight.mean
    noun = "the tight bound" if is_plain_sgd else "the guide by N/G"
    if largest <= tight.ci_low:
        holds, position = True, f"lies below {noun}"
    elif largest <= tight.ci_high:
        holds, position = None, f"lies inside the interval of {noun}"
    else:
        holds, position = False, f"does not lie below {noun}"
    reason = f"The observed kappa {observed['value']:g} {position} {tight}: {ratio:.2g} of it."
    if not is_plain_sgd:
        if holds is False:
            reason += f" The rule holds at kappa {largest:g}: for this optimizer N/G is no bound."
        holds = None
    elif holds is False:
        reason += f" The rule holds at kappa {largest:g}, so an assumption must be violated."
    if observed["first_failure"] is None:
        reason += " No batch size above the base was seen to fail; larger ones would show the end."
    return {"bound_holds": holds, "ratio": ratio, "reason": reason}
