"""Data parallelism on TensorFlow (`tf.distribute`): each replica has a program of its own."""

import functools
import json
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
    keywords = ("collective", "peer", "worker", "task", "connection", "deadline", "heartbeat")
    return any(keyword in str(error).lower() for keyword in keywords)


def mirrored():
    """Returns a strategy over the GPUs of this machine, or its (virtual) CPU devices."""
    return tf.distribute.MirroredStrategy()


def find_cluster():
    """Returns addresses, own index and number of processes by TF_CONFIG; `None` under Slurm."""
    if "TF_CONFIG" not in os.environ:
        return None
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        cluster = {kind: list(config["cluster"].get(kind, ())) for kind in ("chief", "worker")}
        task = config["task"]
        addresses = cluster["chief"] + cluster["worker"]
        first = len(cluster["chief"]) if task["type"] == "worker" else 0
        index = first + int(task["index"])
        is_valid = 0 <= int(task["index"]) < len(cluster[task["type"]])
        is_valid &= len(set(addresses)) == len(addresses)
        is_valid &= all(0 < int(address.rpartition(":")[2]) < 2**16 for address in addresses)
    except (AttributeError, KeyError, TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise ValueError(
            "The environment variable TF_CONFIG must be JSON like "
            '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", '
            '"index": 0}}, with the task of this process and an address of its own for each. '
            f"Received: TF_CONFIG={os.environ['TF_CONFIG']!r}. See docs/tpu.md."
        )
    return addresses, index, len(addresses)


def multi_worker():
    """Returns a strategy over the devices of all processes in TF_CONFIG or the Slurm job."""
    if "TF_CONFIG" in os.environ:
        resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    elif "SLURM_STEP_NODELIST" in os.environ:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver()
    else:
        raise ValueError(
            "`strategy` 'multi_worker' requires the environment variable TF_CONFIG, or a launch "
            "with `srun` under Slurm. Received: strategy='multi_worker' with neither. "
            "See docs/tpu.md."
        )
    # Heartbeats detect lost processes. `timeout_seconds` would keep one thread per operation until
    # it has passed, so that after some thousand steps no more threads can be started.
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def tpu(name):
    """Returns a strategy over the cores of a TPU, by default that of this machine."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu=name or "local")
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise _no_tpu(name) from error
    if not tf.config.list_logical_devices("TPU"):
        raise _no_tpu(name)
    return tf.distribute.TPUStrategy(resolver)


def _no_tpu(name):
    return ValueError(
        "`strategy` 'tpu' needs a TPU and TensorFlow with TPU support (the extra `[tpu]`). "
        f"Received: tpu={name!r}, which was not found. Run this on the TPU VM without --tpu, or "
        "pass the name of a running TPU node; see docs/tpu.md."
    )


def is_distributed():
    """Returns True inside the scope of a strategy, even of a single replica."""
    return tf.distribute.has_strategy()


def num_replicas():
    """Returns the number of replicas over which batches are split."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _cluster():
    resolver = tf.distribute.get_strategy().cluster_resolver
    # On a TPU pod one process controls all machines.
    is_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    return None if is_tpu or resolver is None else resolver


def num_processes():
    """Returns the number of processes that run this program together."""
    cluster = _cluster()
    return max(1, sum(map(len, cluster.cluster_spec().as_dict().values()))) if cluster else 1


def process_index():
    """Returns the index of this process; process 0 writes the files."""
    cluster = _cluster()
    return (cluster.task_id or 0) if cluster else 0


def gather(value):
    """Returns a list with the integer (or list of them) of every replica; waits for all others."""
    program = _gathering_program(tf.distribute.get_strategy())
    return program(tf.constant(value, tf.int64)).numpy().tolist()


@functools.lru_cache(maxsize=1)
def _gathering_program(strategy):
    def contribute(value):
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        # One position per replica, so that the sum is a list of all values.
        position = tf.one_hot(index, strategy.num_replicas_in_sync, dtype=tf.int64)
        return tf.reshape(position, [-1] + [1] * value.shape.rank) * value

    return tf.function(
        lambda value: strategy.reduce("SUM", strategy.run(contribute, args=(value,)), axis=None),
        autograph=False,
    )


def replica_slice(array):
    """Returns this replica's contiguous slice of an array, with a static shape."""
    # Its even and odd rows are even and odd rows of the array: slices of both halves of a batch.
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return array
    size = array.shape[0] // context.num_replicas_in_sync
    start = tf.cast(context.replica_id_in_sync_group, tf.int32) * size
    begin = tf.concat([[start], tf.zeros([array.shape.rank - 1], tf.int32)], axis=0)
    shape = [size, *array.shape[1:]]
    return tf.ensure_shape(tf.slice(array, begin, shape), shape)


def to_device(array):
    """Returns an array as a tensor, or under a strategy as a variable on every device."""
    if isinstance(array, tf.Variable):
        return array
    tensor = tf.convert_to_tensor(array)
    return tf.Variable(tensor, trainable=False) if is_distributed() else tensor


def average_statistics(variables):
    """Averages float variables, such as moving averages, over replicas; called in each of them."""
    floats = [v.value for v in variables if tf.as_dtype(v.dtype).is_floating]
    if floats:
        # Copies, because they have a device, which reads of variables may lack.
        values = [tf.identity(variable) for variable in floats]
        means = tf.distribute.get_replica_context().all_reduce("MEAN", values)
        for variable, mean in zip(floats, means, strict=True):
            variable.assign(mean)
