"""The words for what a comparison comes to, and how bad each of them is."""

from keras_svag._checks import one_of

# Whether the SDE is a valid model.
VALID, INVALID = "valid", "invalid"
# Whether the linear scaling rule holds, and the runs that all others are compared with.
HOLDS, FAILS, BASE = "holds", "fails", "base"
# Whether two kinds of noise train alike.
EQUIVALENT, DIFFERENT = "equivalent", "different"
# Of any of these questions.
INCONCLUSIVE = "inconclusive"

GOOD, BAD, OPEN = "good", "bad", "open"
_TONES = {
    VALID: GOOD,
    HOLDS: GOOD,
    EQUIVALENT: GOOD,
    INVALID: BAD,
    FAILS: BAD,
    DIFFERENT: BAD,
    INCONCLUSIVE: OPEN,
    BASE: BASE,
}
_WORST_FIRST = (BAD, OPEN, GOOD)


def tone(outcome):
    """Returns how an outcome is to be shown, whatever the question.

    Args:
        outcome: one of the words of this module.

    Returns:
        `"good"`, `"bad"`, `"open"`, or `"base"` for what all else is compared with.

    Raises:
        ValueError: if `outcome` is none of them.

    Example:

    >>> tone("valid"), tone("fails")
    ('good', 'bad')
    """
    return _TONES[one_of("outcome", outcome, _TONES)]


def worst(outcomes):
    """Returns the outcome that stands for several: a bad one before an open one before a good one.

    Args:
        outcomes: iterable of words of this module, of one question. `"base"` counts for nothing.

    Returns:
        One of them; the first of the worst tone.

    Raises:
        ValueError: if there is none to choose from, or one is not a word of this module.

    Example:

    >>> worst(["valid", "inconclusive", "invalid"])
    'invalid'
    """
    outcomes = list(outcomes)
    tones = [tone(outcome) for outcome in outcomes]
    for candidate in _WORST_FIRST:
        if candidate in tones:
            return outcomes[tones.index(candidate)]
    raise ValueError(
        "`outcomes` must hold at least one outcome of a comparison. "
        f"Received: outcomes={outcomes!r}"
    )
