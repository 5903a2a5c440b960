"""Data parallelism of `keras.distribution`: one global program over all devices."""

import jax
import keras

PROCESS_ERRORS = (jax.errors.JaxRuntimeError, ValueError)


def is_lost_process_error(error):
    """Returns True if one of `PROCESS_ERRORS` comes from the other processes of a cluster."""
    words = ("gloo", "connection", "heartbeat", "deadline_exceeded", "unavailable", "peer")
    return any(word in str(error).lower() for word in words)


def mirrored():
    """Data parallelism over the devices of this machine."""
    return _data_parallel()


def multi_worker():
    """Data parallelism over the devices of all processes."""
    try:
        # Slurm, MPI, Kubernetes and TPU pods are found by JAX itself.
        keras.distribution.initialize()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "`strategy` 'multi_worker' needs to know its processes: from Slurm or a TPU pod, or "
            "the environment variables KERAS_DISTRIBUTION_JOB_ADDRESSES, "
            "KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID. "
            f"Received: strategy='multi_worker', and JAX said: {error} See docs/tpu.md."
        ) from error
    return _data_parallel()


def tpu(name):
    """Data parallelism over the TPU cores of this machine."""
    if name is not None:
        raise ValueError(
            f"`tpu` must be left out on JAX, which runs on the TPU's own machine. Received: "
            f"tpu={name!r}. Log in there and use strategy='tpu' alone."
        )
    try:
        devices = keras.distribution.list_devices("tpu")
    except RuntimeError as error:
        raise ValueError(
            "`strategy` 'tpu' needs a TPU and a JAX that can use it (the extra `[jax-tpu]`). "
            f"Received: strategy='tpu', and JAX has {keras.distribution.list_devices()}. Run this "
            "on a TPU VM; docs/tpu.md has the commands."
        ) from error
    return _data_parallel(devices)


def _data_parallel(devices=None):
    devices = devices or keras.distribution.list_devices()
    return keras.distribution.DataParallel(devices=devices)


def is_distributed():
    """Returns True if a distribution is in effect."""
    return keras.distribution.distribution() is not None


def num_replicas():
    """Number of devices of the distribution in effect."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.device_mesh.devices.size


def num_processes():
    """Number of processes that execute this program together."""
    return jax.process_count() if is_distributed() else 1


def process_index():
    """Number of this process, counted from 0; 0 is the one that writes files."""
    return jax.process_index() if is_distributed() else 0


def gather(value):
    """The values that all processes call this with; each waits for all others."""
    from jax.experimental import multihost_utils

    # As two numbers of 16 bits: JAX has no int64 unless asked for it.
    pair = jax.numpy.asarray([value >> 16, value & 0xFFFF])
    return [(int(a) << 16) + int(b) for a, b in multihost_utils.process_allgather(pair)]


def sharded(arrays):
    """Cuts arrays over the devices, equal contiguous parts of the first axis; also when traced."""
    return _placed(arrays, cut=True)


def replicated(arrays):
    """Puts arrays on every device, whole; also when traced."""
    return _placed(arrays, cut=False)


def _placed(arrays, cut):
    distribution = keras.distribution.distribution()
    if distribution is None:
        return arrays
    mesh = distribution.device_mesh.backend_mesh
    spec = jax.sharding.PartitionSpec(*mesh.axis_names if cut else ())
    layout = jax.sharding.NamedSharding(mesh, spec)
    return jax.tree.map(lambda a: keras.distribution.distribute_tensor(a, layout), arrays)


def to_device(array):
    """The array on the device, or whole on every device of the distribution."""
    return replicated(array) if is_distributed() else jax.numpy.asarray(array)
