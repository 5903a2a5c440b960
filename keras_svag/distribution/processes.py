"""What the processes of a `multi_worker` run have to agree on."""

from keras_svag.distribution.placement import backend


def is_chief():
    """Whether this process is the one that writes files: the first, or the only one."""
    return backend.process_index() == 0


def any_process(flag):
    """Whether something holds on any process of this run.

    All processes must ask at the same place of the program: each waits for all others there.

    Args:
        flag: bool, whether it holds on this process.

    Returns:
        A bool, the same on all processes; `flag` itself where there is one process.
    """
    if backend.num_processes() == 1:
        return flag
    return any(backend.gather(int(flag)))
