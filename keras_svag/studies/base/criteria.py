"""Criteria that users add to a study: limits on columns of its table."""

from collections.abc import Mapping

from keras_svag._checks import one_of
from keras_svag.theory import Criterion

KINDS = {"ratio": Criterion.within_factor, "difference": Criterion.within_difference}


def parse_criteria(criteria) -> dict[str, Criterion]:
    """The `Criterion` of each column: `{"ratio": C}` or `{"difference": d}`."""
    found = {}
    for name, limit in (criteria or {}).items():
        if not isinstance(limit, Mapping) or len(limit) != 1:
            raise ValueError(
                "`criteria` must be a dict from a column of results.csv to {'ratio': C} or "
                f"{{'difference': d}}. Received: criteria={dict(criteria)!r}"
            )
        [(kind, value)] = limit.items()
        one_of("criteria", kind, KINDS)
        found[name] = KINDS[kind](value)
    return found
