"""Strategies of `tf.distribute`: every replica has its part of the batch and its own program."""

import functools
import os

import tensorflow as tf

PROCESS_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def is_lost_process_error(error):
    """Returns True if one of `PROCESS_ERRORS` comes from the other processes of a cluster."""
    words = ("collective", "peer", "worker", "task", "connection", "deadline", "heartbeat")
    return any(word in str(error).lower() for word in words)


def mirrored():
    """A strategy over the GPUs of this machine, or its (virtual) CPU devices."""
    return tf.distribute.MirroredStrategy()


def multi_worker():
    """A strategy over the devices of all processes that TF_CONFIG or Slurm tells of."""
    if "TF_CONFIG" in os.environ:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    elif "SLURM_STEP_NODELIST" in os.environ:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
    else:
        raise ValueError(
            "`strategy` 'multi_worker' needs to know its processes: from the environment variable "
            "TF_CONFIG, or by being started with `srun` under Slurm. Received: "
            "strategy='multi_worker' without either. See docs/tpu.md for both."
        )
    # Heartbeats tell of processes that are gone. A `timeout_seconds` besides would keep a thread
    # for each operation until it has passed, and after some thousand steps there are no more.
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def tpu(name):
    """A strategy over the cores of a TPU."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=name or "local")
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise _no_tpu(name) from error
    if not tf.config.list_logical_devices("TPU"):
        raise _no_tpu(name)
    return tf.distribute.TPUStrategy(resolver)


def _no_tpu(name):
    return ValueError(
        "`strategy` 'tpu' needs a TPU, and a TensorFlow that can use it (the extra `[tpu]`). "
        f"Received: tpu={name!r}, which was not found. Run this on the TPU's own machine without "
        "--tpu, or give the name of a running TPU node; docs/tpu.md has the commands."
    )


def is_distributed():
    """Returns True if a strategy is in effect."""
    return tf.distribute.has_strategy()


def num_replicas():
    """Number of replicas of the strategy in effect."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _cluster():
    resolver = tf.distribute.get_strategy().cluster_resolver
    # On a TPU pod one process commands all machines.
    is_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    return None if is_tpu or resolver is None else resolver


def num_processes():
    """Number of processes that execute this program together."""
    cluster = _cluster()
    return max(1, sum(map(len, cluster.cluster_spec().as_dict().values()))) if cluster else 1


def process_index():
    """Number of this process, counted from 0; 0 is the one that writes files."""
    cluster = _cluster()
    return (cluster.task_id or 0) if cluster else 0


def gather(value):
    """The values that all processes call this with; each waits for all others."""
    program = _gathering_program(tf.distribute.get_strategy())
    return program(tf.constant(value, tf.int64)).numpy().tolist()


@functools.lru_cache(maxsize=1)
def _gathering_program(strategy):
    def contribute(value):
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        # Each replica its own place, so that the sum is a list of all.
        return tf.one_hot(index, strategy.num_replicas_in_sync, dtype=tf.int64) * value

    return tf.function(
        lambda value: strategy.reduce("SUM", strategy.run(contribute, args=(value,)), axis=None),
        autograph=False,
    )


def share(array):
    """The part of an array that belongs to this replica, equal contiguous parts."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return array
    size = array.shape[0] // context.num_replicas_in_sync
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
    begin = tf.concat([[start], tf.zeros([array.shape.rank - 1], tf.int32)], axis=0)
    part = tf.slice(array, begin, [size, *array.shape[1:]])
    return tf.ensure_shape(part, [size, *array.shape[1:]])


def to_device(array):
    """The array as a tensor, or as a variable that every replica has on its own device."""
    if isinstance(array, tf.Variable):
        return array
    tensor = tf.convert_to_tensor(array)
    return tf.Variable(tensor, trainable=False) if is_distributed() else tensor


def average_statistics(variables):
    """Gives replicas the mean of what each has in float variables; called in each replica."""
    floats = [v.value for v in variables if tf.as_dtype(v.dtype).is_floating]
    if floats:
        # Copies have a device, which reads of variables may lack.
        values = [tf.identity(variable) for variable in floats]
        means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        for variable, mean in zip(floats, means, strict=True):
            variable.assign(mean)
