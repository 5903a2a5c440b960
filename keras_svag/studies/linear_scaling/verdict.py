"""The verdict on the scaling rule: a prediction from the base runs, and each batch size."""

import math

from keras_svag import theory
from keras_svag.studies.base.table import WINDOW_COLUMNS, failed_runs, summarize_quantities
from keras_svag.studies.linear_scaling.bound import BASE_EQUILIBRIUM
from keras_svag.studies.linear_scaling.cells import VELOCITY_NORM
from keras_svag.theory.outcomes import BASE, FAILS, HOLDS, INCONCLUSIVE

CLOSENESS, WEIGHT_NORM, TEST_ACCURACY = "closeness", "weight_norm", "test_accuracy"
OUTCOMES = {theory.VALID: HOLDS, theory.INVALID: FAILS, theory.INCONCLUSIVE: INCONCLUSIVE}
# Quantities that agree where the rule holds, with their symbols; `scaled_noise` is B N.
COMPARED = {WEIGHT_NORM: "R", "scaled_noise": "B N", "gradient_signal": "G"}


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


def build_verdict(study, cells):
    """Returns the dict of `verdict.json` from a list of `Cell` in order of batch size."""
    base = next(cell for cell in cells if cell.kappa == 1)
    prediction = predict(study, base)
    settings = [_summarize_cell(cell, study) | judge(cell, base, study) for cell in cells]
    observed = observed_max_kappa(settings)
    predicted = prediction["predicted_max_kappa"]
    return {
        "study": study.name,
        "closeness": study.closeness,
        "confidence": theory.CONFIDENCE,
        "criterion": study.criterion,
        "tolerance": study.tolerance,
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
        "not_in_equilibrium": [
            cell.batch_size for cell in cells if cell.num_finished and not cell.window.reached
        ],
        "failed_runs": failed_runs([row for cell in cells for row in cell.rows]),
    }


def _summarize_cell(cell, study):
    window = cell.window
    summary = {
        "kappa": cell.kappa,
        "batch_size": cell.batch_size,
        "learning_rate": cell.learning_rate,
        "num_seeds": cell.num_finished,
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
    return summary | summarize_quantities(cell.rows, (*WINDOW_COLUMNS, "scaled_noise"))


def _identity(cell, facts):
    """Returns R over what the steps sustain: 1 in equilibrium if the loss is scale invariant."""
    rate, decay = cell.learning_rate, facts.weight_decay_at(cell.batch_size)
    if not cell.num_finished or not 0 < rate * decay < 1:
        return None
    if facts.is_plain_sgd:
        sustained = [
            theory.equilibrium_weight_norm(noise, signal, rate, decay)
            for noise, signal in zip(cell.column("bound_noise"), cell.column("bound_signal"))
        ]
    elif any(VELOCITY_NORM in row for row in cell.rows):  # a heavy ball
        momentum = facts.momentum_at(cell.batch_size)
        sustained = [
            theory.heavy_ball_weight_norm(velocity, rate, decay, momentum)
            for velocity in cell.column(VELOCITY_NORM)
        ]
    else:  # preconditioning balances R in another way
        return None
    return theory.ratio_of_means(cell.column(WEIGHT_NORM), sustained)


def judge(cell, base, study):
    """Returns `outcome`, `reason`, `ratios` to the base and `test_accuracy_loss` of a `Cell`."""
    if cell is base:
        return _outcome(BASE, "the runs that all others are compared with.")
    if base.num_finished < 2:
        return _outcome(INCONCLUSIVE, "fewer than two runs at the base batch size finished.")
    if not cell.num_finished:
        return _outcome(FAILS, "every run diverged.")
    ratios = {
        name: theory.ratio_interval(cell.column(name), base.column(name)) for name in COMPARED
    }
    accuracy_loss, final = None, f"final_{TEST_ACCURACY}"
    if any(final in row for row in base.rows):
        accuracy_loss = theory.difference_interval(base.column(final), cell.column(final))
    if study.criterion == TEST_ACCURACY:
        outcome, reason = _judge_accuracy(accuracy_loss, study.tolerance)
    else:
        names = [WEIGHT_NORM] if study.criterion == WEIGHT_NORM else list(COMPARED)
        values, expected = ({name: c.column(name) for name in names} for c in (cell, base))
        outcome = OUTCOMES[theory.judge(values, expected, study.closeness).verdict]
        reason = ", ".join(f"{COMPARED[name]} times {ratios[name]}" for name in names) + "."
    num_failed = len(cell.rows) - cell.num_finished
    if cell.num_finished < 2:
        reason = "fewer than two runs finished, so there are no intervals; use num_seeds >= 2."
    elif num_failed and outcome == HOLDS:
        # That the survivors agree does not make up for divergence.
        outcome = INCONCLUSIVE
        reason = f"{num_failed} of {len(cell.rows)} runs diverged; of the others, {reason}"
    return _outcome(outcome, reason, ratios, accuracy_loss)


def _outcome(outcome, reason, ratios=None, accuracy_loss=None):
    return {
        "outcome": outcome,
        "reason": reason,
        "ratios": ratios or {},
        "test_accuracy_loss": accuracy_loss,
    }


def _judge_accuracy(loss, tolerance):
    if loss is None:
        raise ValueError(
            "`criterion` 'test_accuracy' needs the metric 'accuracy' and test data. Received: "
            "records without test_accuracy. Use another criterion."
        )
    outcome = HOLDS if loss.ci_high <= tolerance else INCONCLUSIVE
    if loss.ci_low > tolerance:
        outcome = FAILS
    return outcome, f"test accuracy lower by {loss}."


def observed_max_kappa(settings):
    """Returns the largest kappa up to which the rule holds, and where it fails or is undecided."""
    above = [setting for setting in settings if setting["kappa"] > 1]
    has_base = any(s["kappa"] == 1 and s["num_seeds"] for s in settings)
    value = 1.0 if has_base else None
    for setting in above:
        if setting["outcome"] != HOLDS:
            break
        value = setting["kappa"]
    failures = [setting["kappa"] for setting in above if setting["outcome"] == FAILS]
    return {
        "value": value,
        "first_failure": min(failures, default=None),
        "inconclusive": [s["kappa"] for s in above if s["outcome"] == INCONCLUSIVE],
    }


def compare_with_bound(settings, observed, tight, is_plain_sgd=True):
    """Returns `bound_holds` (`None`: undecided, no bound), `ratio` of kappa to it, `reason`."""
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
