"""Over how many replicas a batch is cut, and which batches can be."""

from keras_svag._backend import backend_module

backend = backend_module(__package__)


def is_distributed():
    """Returns True if a strategy is in effect, be it one of a single replica."""
    return backend.is_distributed()


def num_replicas():
    """Number of replicas over which batches are cut; 1 without a strategy."""
    return backend.num_replicas()


def to_device(array):
    """Puts an array where programs read it: on the device, under a strategy on all of them."""
    return backend.to_device(array)


def check_batch_size(batch_size):
    """Checks that each replica gets as many examples of either half as any other."""
    replicas = num_replicas()
    if batch_size % replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of replicas, {replicas}, so that each "
            f"gets its share of both halves. Received: batch_size={batch_size}. Use another batch "
            "size, or fewer devices."
        )
