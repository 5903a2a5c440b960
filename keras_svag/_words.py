"""Lists in sentences."""


def join(words):
    """Puts words in a row, as a sentence has them.

    Args:
        words: list of strings, not empty.

    Returns:
        A string.

    Example:

    >>> join(["R"]), join(["R", "N"]), join(["R", "N", "G"])
    ('R', 'R and N', 'R, N and G')
    """
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
