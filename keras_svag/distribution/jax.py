"""Data parallelism on JAX (`keras.distribution`): one global program over all devices."""

import os

import jax
import keras
import numpy as np

PROCESS_ERRORS = (jax.errors.JaxRuntimeError, ValueError)


def is_lost_process_error(error):
    """Returns True if one of `PROCESS_ERRORS` comes from the other processes of a cluster."""
    keywords = ("gloo", "connection", "heartbeat", "deadline_exceeded", "unavailable", "peer")
    return any(keyword in str(error).lower() for keyword in keywords)


def mirrored():
    """Returns data parallelism over the devices of this machine."""
    return _data_parallel()


def find_cluster():
    """Returns addresses, own index and number of processes by Keras' variables, if they are set."""
    prefix = "KERAS_DISTRIBUTION_"
    names = [f"{prefix}{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")]
    values = {name: os.environ[name] for name in names if name in os.environ}
    if not values:
        return None  # JAX detects Slurm, MPI, Kubernetes and TPU pods
    try:
        addresses, count, index = (values[name] for name in names)
        addresses, count, index = addresses.split(","), int(count), int(index)
        is_valid = 0 <= index < count and 0 < int(addresses[0].rpartition(":")[2]) < 2**16
        is_valid &= len(addresses) in (1, count)
    except (KeyError, ValueError):
        is_valid = False
    if not is_valid:
        raise ValueError(
            f"The environment variables {', '.join(names)} must be the address host:port of "
            "process 0, the number of processes, and the number of this one, from 0. "
            f"Received: {values}. See docs/tpu.md."
        )
    return addresses[:1], index, count


def multi_worker():
    """Returns data parallelism over the devices of all processes."""
    try:
        keras.distribution.initialize()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "`strategy` 'multi_worker' needs Slurm, a TPU pod, or the environment variables "
            "KERAS_DISTRIBUTION_JOB_ADDRESSES, KERAS_DISTRIBUTION_NUM_PROCESSES and "
            "KERAS_DISTRIBUTION_PROCESS_ID. Received: strategy='multi_worker', and JAX raised: "
            f"{error} See docs/tpu.md."
        ) from error
    return _data_parallel()


def tpu(name):
    """Returns data parallelism over the TPU cores of this machine."""
    if name is not None:
        raise ValueError(
            "`tpu` must be left out on JAX, which runs on the TPU VM itself. "
            f"Received: tpu={name!r}. Run this on the TPU VM with strategy='tpu'."
        )
    try:
        devices = keras.distribution.list_devices("tpu")
    except RuntimeError as error:
        raise ValueError(
            "`strategy` 'tpu' needs a TPU and JAX with TPU support (the extra `[jax-tpu]`). "
            f"Received: strategy='tpu', but JAX found {keras.distribution.list_devices()}. "
            "Run this on a TPU VM; see docs/tpu.md."
        ) from error
    return _data_parallel(devices)


def _data_parallel(devices=None):
    devices = devices or keras.distribution.list_devices()
    return keras.distribution.DataParallel(devices=devices)


def is_distributed():
    """Returns True if a Keras distribution is set."""
    return keras.distribution.distribution() is not None


def num_replicas():
    """Returns the number of devices over which batches are sharded."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.device_mesh.devices.size


def num_processes():
    """Returns the number of processes that run this program together."""
    return jax.process_count() if is_distributed() else 1


def process_index():
    """Returns the index of this process; process 0 writes the files."""
    return jax.process_index() if is_distributed() else 0


def gather(value):
    """Returns a list with the integer (or list of them) of every process; waits for all others."""
    from jax.experimental import multihost_utils

    # As two 16-bit numbers, because JAX has no int64 by default.
    value = np.asarray(value, np.int64)
    pair = jax.numpy.asarray(np.stack([value >> 16, value & 0xFFFF]).astype(np.int32))
    gathered = np.asarray(multihost_utils.process_allgather(pair), np.int64)
    return ((gathered[:, 0] << 16) + gathered[:, 1]).tolist()


def sharded(arrays):
    """Shards arrays over the devices along their first axis; also under tracing."""
    return _distribute(arrays, is_sharded=True)


def replicated(arrays):
    """Copies arrays to every device; also under tracing."""
    return _distribute(arrays, is_sharded=False)


def _distribute(arrays, is_sharded):
    distribution = keras.distribution.distribution()
    if distribution is None:
        return arrays
    mesh = distribution.device_mesh.backend_mesh
    spec = jax.sharding.PartitionSpec(*mesh.axis_names if is_sharded else ())
    layout = jax.sharding.NamedSharding(mesh, spec)
    return jax.tree.map(lambda a: keras.distribution.distribute_tensor(a, layout), arrays)


def to_device(array):
    """Copies an array to the device, or to every device of the distribution."""
    return replicated(array) if is_distributed() else jax.numpy.asarray(array)
