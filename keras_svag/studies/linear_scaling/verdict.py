"""The verdict on the linear scaling rule: each batch size against the base."""

import math

from keras_svag import theory
from keras_svag.studies.base.table import WINDOW_COLUMNS, failed_runs, summarize_quantities
from keras_svag.studies.linear_scaling.prediction import predict
from keras_svag.theory.outcomes import BASE, FAILS, HOLDS, INCONCLUSIVE

OUTCOMES = {
    theory.VALID: HOLDS,
    theory.INVALID: FAILS,
    theory.INCONCLUSIVE: INCONCLUSIVE,
}
# What agrees where the rule holds, with its symbol; `scaled_noise` is B N.
COMPARED = {"weight_norm": "R", "scaled_noise": "B N", "gradient_signal": "G"}
WEIGHT_NORM, TEST_ACCURACY = "weight_norm", "test_accuracy"


def build_verdict(study, cells):
    """The dict of `verdict.json`.

    Args:
        study: a `LinearScaling`.
        cells: list of `Cell` in order of batch size.

    Returns:
        A dict.
    """
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
        "comparison": compare_with_bound(settings, observed, predicted[theory.TIGHT]),
        "premises": _assumptions(base, study.facts),
        "settings": settings,
        "not_in_equilibrium": [
            cell.batch_size for cell in cells if cell.num_finished and not cell.window.reached
        ],
        "failed_runs": failed_runs([row for cell in cells for row in cell.rows]),
    }


def _assumptions(base, facts):
    """What the theorem assumes, and whether it is so; `None` where that is not known."""
    return {
        **facts.assumptions(),
        "loss that does not depend on the batch size": facts.independent_of_batch,
        # So does scale invariance show in the runs.
        "R changes by what N, G and weight decay add and take": base.window.is_balanced,
        "equilibrium of the base runs": base.window.reached,
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
    """R over what N and G keep up against weight decay: 1 in equilibrium, if scale invariant."""
    if not facts.is_plain_sgd:  # with momentum, or preconditioned, R is balanced otherwise
        return None
    if not cell.num_finished or not 0 < cell.learning_rate * facts.weight_decay < 2:
        return None
    kept_up = [
        theory.equilibrium_weight_norm(noise, signal, cell.learning_rate, facts.weight_decay)
        for noise, signal in zip(cell.column("bound_noise"), cell.column("bound_signal"))
    ]
    return theory.ratio_of_means(cell.column("weight_norm"), kept_up)


def judge(cell, base, study):
    """Judges whether training at one batch size is still what it is at the base batch size.

    "holds" if the 95 % intervals of all ratios that the criterion compares lie inside `[1/C, C]`,
    "fails" if one, corrected for their number, lies wholly outside; test accuracy holds if the
    interval of its loss lies below the tolerance, and fails if it lies above. Where every run
    diverged the rule fails; where some did, it is not said to hold.

    Args:
        cell: the `Cell` of the batch size.
        base: that of the base.
        study: a `LinearScaling`.

    Returns:
        A dict: `outcome`, `reason`, `ratios` to the base of R, B N and G, and
        `test_accuracy_loss`, base minus this (`None` where accuracy is not measured).
    """
    if cell is base:
        return _outcome(BASE, "the runs that all others are compared with.")
    diverged = len(cell.rows) - cell.num_finished
    if base.num_finished < 2:
        return _outcome(INCONCLUSIVE, "fewer than two runs at the base batch size finished.")
    if not cell.num_finished:
        return _outcome(FAILS, "every run diverged.")
    ratios = {
        name: theory.ratio_interval(cell.column(name), base.column(name)) for name in COMPARED
    }
    lost = _accuracy_loss(cell, base)
    if lost is None and study.criterion == TEST_ACCURACY:
        raise ValueError(
            "`criterion` 'test_accuracy' needs the metric 'accuracy' and test data. Received: "
            "records without test_accuracy. Use another criterion."
        )
    outcome = _decide(cell, base, lost, study)
    reason = _reason(study.criterion, ratios, lost)
    if cell.num_finished < 2:
        reason = "fewer than two runs finished, so there are no intervals; use num_seeds >= 2."
    elif diverged and outcome == HOLDS:
        outcome = INCONCLUSIVE
        reason = f"{diverged} of {len(cell.rows)} runs diverged; of the others, {reason}"
    return _outcome(outcome, reason, ratios, lost)


def _accuracy_loss(cell, base):
    name = f"final_{TEST_ACCURACY}"
    if not any(name in row for row in base.rows):
        return None
    return theory.difference_interval(base.column(name), cell.column(name))


def _outcome(outcome, reason, ratios=None, lost=None):
    return {
        "outcome": outcome,
        "reason": reason,
        "ratios": ratios or {},
        "test_accuracy_loss": lost,
    }


def _decide(cell, base, lost, study):
    if study.criterion == TEST_ACCURACY:
        if lost.ci_high <= study.tolerance:
            return HOLDS
        return FAILS if lost.ci_low > study.tolerance else INCONCLUSIVE
    names = (WEIGHT_NORM,) if study.criterion == WEIGHT_NORM else tuple(COMPARED)
    values, expected = ({name: c.column(name) for name in names} for c in (cell, base))
    return OUTCOMES[theory.judge(values, expected, study.closeness).verdict]


def _reason(criterion, ratios, lost):
    if criterion == TEST_ACCURACY:
        return f"test accuracy lower by {lost}."
    names = (WEIGHT_NORM,) if criterion == WEIGHT_NORM else tuple(COMPARED)
    return ", ".join(f"{COMPARED[name]} times {ratios[name]}" for name in names) + "."


def observed_max_kappa(settings):
    """The largest kappa up to which the rule holds, and the smallest at which it fails.

    Args:
        settings: list of dicts with `kappa` and `outcome`, in order of kappa.

    Returns:
        A dict: `value`, the largest kappa such that every batch size of the sweep from the base up
        to it holds (1 if none does, `None` without base runs); `first_failure`, the smallest kappa
        above 1 that fails, or `None`; `inconclusive`, those above 1 that are neither.
    """
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


def compare_with_bound(settings, observed, tight):
    """Whether what was observed lies below the tight bound, as the theorem says.

    Args:
        settings: as in `observed_max_kappa`.
        observed: what that returned.
        tight: `Interval` of the bound.

    Returns:
        A dict: `bound_holds` (False if some kappa beyond the bound's interval holds, `None` if only
        inside the interval, or without a bound), `ratio` of the observed kappa to the bound, and
        `reason`, in words.
    """
    if observed["value"] is None or not math.isfinite(tight.mean):
        reason = "There is no bound to compare with: G of the base runs may be zero."
        if observed["value"] is None:
            reason = "No run at the base batch size finished, so nothing is predicted."
        return {"bound_holds": None, "ratio": None, "reason": reason}
    largest = max((s["kappa"] for s in settings if s["outcome"] == HOLDS), default=1.0)
    largest = max(largest, observed["value"])
    ratio = observed["value"] / tight.mean
    if largest <= tight.ci_low:
        holds, words = True, "lies below the tight bound"
    elif largest <= tight.ci_high:
        holds, words = None, "lies inside the interval of the tight bound"
    else:
        holds, words = False, "does not lie below the tight bound"
    reason = f"The observed kappa {observed['value']:g} {words} {tight}: {ratio:.2g} of it."
    if holds is False:
        reason += f" At kappa {largest:g} training is as at the base: a premise must be broken."
    if observed["first_failure"] is None:
        reason += " No batch size above the base was seen to fail; larger ones would show the end."
    return {"bound_holds": holds, "ratio": ratio, "reason": reason}
