"""An epoch as segments `(index of the first batch, batch size)`, in which the batch may grow."""

import math


def examples_before(segments):
    """Returns the number of examples before the last segment."""
    pairs = zip(segments, segments[1:])
    return sum((later[0] - first[0]) * first[1] for first, later in pairs)


def first_index(segments):
    """Returns where the last segment goes on among batches of its size, and repeats no example."""
    return math.ceil(examples_before(segments) / segments[-1][1])


def find_segment(segments, index):
    """Returns the number of the segment that has the batch `index` of the epoch."""
    return max(i for i, (start, _) in enumerate(segments) if start <= index)
