"""The outcome of each batch size: its runs against those of the base."""

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.studies.base.criteria import parse_criteria
from keras_svag.theory import Criterion, spent_at
from keras_svag.theory.outcomes import BASE
from keras_svag.theory.quantities import SCALED_NOISE, SIGNAL, WEIGHT_NORM

CLOSENESS, TEST_ACCURACY, TEST_ERROR_RATIO = "closeness", "test_accuracy", "test_error_ratio"
CRITERIA = (CLOSENESS, WEIGHT_NORM, TEST_ACCURACY, TEST_ERROR_RATIO)
# Quantities that agree where the rule holds.
COMPARED = (WEIGHT_NORM, SCALED_NOISE, SIGNAL)
FINAL_ACCURACY, TEST_ERROR = "final_test_accuracy", "test_error"


def quantities_of(study):
    """Returns the names of what must agree, by the study's criterion and those of its user."""
    main = {
        CLOSENESS: [n for n in COMPARED if n != WEIGHT_NORM or study.facts.judges_weight_norm],
        WEIGHT_NORM: [WEIGHT_NORM],
        TEST_ACCURACY: [FINAL_ACCURACY],
        TEST_ERROR_RATIO: [TEST_ERROR],
    }[study.criterion]
    return list(dict.fromkeys([*main, *(study.criteria or {})]))


def limits_of(study):
    """Returns the `Criterion` of each quantity whose limit is not `closeness`."""
    limits = {
        # One-sided: higher accuracy is no failure.
        FINAL_ACCURACY: Criterion(-study.tolerance, float("inf"), "difference"),
        TEST_ERROR: Criterion(0.0, study.test_error_ratio),
    }
    return limits | parse_criteria(study.criteria)


def values_of(cell, quantities):
    """Returns one number per run of each quantity, NaN for a run that failed."""
    return {name: [_value(row, name) for row in cell.rows] for name in quantities}


def _value(row, quantity):
    if row["status"] != DONE:
        return float("nan")
    column = FINAL_ACCURACY if quantity == TEST_ERROR else quantity
    if not isinstance(row.get(column), float):
        raise ValueError(
            "`criterion` and `criteria` must be about recorded quantities (test accuracy takes the "
            f"metric 'accuracy' and test data). Received: {quantity!r}, for which results.csv has "
            f"no numbers in a column {column!r}. Use another criterion."
        )
    return 1 - row[column] if quantity == TEST_ERROR else row[column]


def judge_cell(study, cell, base, look):
    """Returns `outcome`, `reason`, `ratios` to the base and `test_accuracy_loss` of a `Cell`."""
    if cell is base:
        return {
            "outcome": BASE,
            "reason": "the runs that all others are compared with.",
            "ratios": {},
            "test_accuracy_loss": None,
        }
    tested = study.quantities()
    found = study.decide(values_of(base, tested), values_of(cell, tested), look)
    # R, B N and G are shown whatever the criterion.
    shown = dict.fromkeys((*COMPARED, *tested))
    compared = study.decide(values_of(base, shown), values_of(cell, shown), look)
    return {
        "outcome": found.verdict,
        "reason": found.reason,
        "ratios": compared.ratios,
        "test_accuracy_loss": _accuracy_loss(cell, base, look),
    }


def _accuracy_loss(cell, base, look):
    """Returns how much lower test accuracy is, as it is tested; `None` without two runs of each."""
    has_accuracy = any(FINAL_ACCURACY in row for row in base.rows)
    if not has_accuracy or min(cell.num_finished, base.num_finished) < 2:
        return None
    lost = (base.column(FINAL_ACCURACY), cell.column(FINAL_ACCURACY))
    return theory.difference_interval(*lost, 1 - 2 * spent_at(look))
