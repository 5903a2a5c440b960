"""What the processes of a `multi_worker` run have to agree on."""

from keras_svag.distribution.placement import backend


def is_chief():
    """Returns True if this process is the one that writes files: the first, or the only one."""
    return backend.process_index() == 0


def any_process(flag):
    """Returns True if something holds on any process of this run."""
    if backend.num_processes() == 1:
        return flag
    return any(backend.gather(int(flag)))
