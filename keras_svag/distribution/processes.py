"""Functions on which the processes of a `multi_worker` run agree."""

from keras_svag.distribution.placement import backend


def is_chief():
    """Returns True if this process is the first one, which writes the files."""
    return backend.process_index() == 0


def max_over_processes(value):
    """Returns the largest of the integers of all processes; each waits here for all others."""
    if backend.num_processes() == 1:
        return value
    return max(backend.gather(int(value)))
