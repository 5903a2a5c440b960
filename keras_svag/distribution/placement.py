"""Functions of the current distribution: number of replicas, placement of arrays."""

from keras_svag._backend import backend_module

backend = backend_module(__package__)
is_distributed = backend.is_distributed
num_replicas = backend.num_replicas
to_device = backend.to_device


def check_batch_size(batch_size):
    """Raises a `ValueError` if B examples cannot be split equally over the replicas."""
    replicas = num_replicas()
    if batch_size % replicas:
        raise ValueError(
            f"`batch_size` must be a multiple of the number of replicas, {replicas}. "
            f"Received: batch_size={batch_size}. Use another batch size, or fewer devices."
        )
