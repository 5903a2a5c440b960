"""Criteria that users add to a study: limits on columns of its table."""

import math
from collections.abc import Mapping

from keras_svag._checks import one_of
from keras_svag.engine.execution import DONE
from keras_svag.theory import Criterion

KINDS = {"ratio": Criterion.within_factor, "difference": Criterion.within_difference}


def parse_criteria(criteria) -> dict[str, Criterion]:
    """The `Criterion` of each column: `{"ratio": C}` or `{"difference": d}`."""
    criteria = {} if criteria is None else criteria
    limits = criteria.values() if isinstance(criteria, Mapping) else [criteria]
    if not all(isinstance(limit, Mapping) and len(limit) == 1 for limit in limits):
        raise ValueError(
            "`criteria` must be a dict from a column of results.csv to {'ratio': C} or "
            f"{{'difference': d}}. Received: criteria={criteria!r}"
        )
    found = {}
    for name, limit in criteria.items():
        [(kind, value)] = limit.items()
        one_of("criteria", kind, KINDS)
        found[name] = KINDS[kind](value)
    return found


def check_columns(criteria, table) -> None:
    """Raises if a criterion is about what no run has recorded."""
    done = [row for row in table if row["status"] == DONE]
    columns = {
        name: None
        for row in done
        for name, value in row.items()
        if isinstance(value, float) and not math.isnan(value)
    }
    missing = [name for name in criteria or {} if done and name not in columns]
    if missing:
        raise ValueError(
            f"`criteria` must name columns of results.csv: {', '.join(columns)}. Received: "
            f"criteria for {', '.join(map(repr, missing))}. Finished runs are kept: correct it, "
            "and run the study again."
        )
