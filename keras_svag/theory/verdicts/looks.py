"""The error that one look at the data may spend."""

from keras_svag._checks import positive_int
from keras_svag.theory.statistics.intervals import validate_confidence


def spent_at(look: int, confidence: float = 0.95) -> float:
    """Error probability that a look may spend, so that all looks together err as one would.

    An inconclusive verdict may be judged again with more seeds, any number of times: the
    k-th look spends `(1 - confidence) 2^-k`, and the sum over all k is `1 - confidence`.

    Args:
        look: 1 for the first look at the data, 2 after seeds were added, and so on.
        confidence: of all looks together, in (0, 1). Defaults to `0.95`.

    Returns:
        A float, the level of the one-sided tests of this look.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> [round(spent_at(look), 5) for look in (1, 2, 3)]
    [0.025, 0.0125, 0.00625]
    """
    look = positive_int("look", look)
    return (1 - validate_confidence(confidence)) * 2.0**-look
