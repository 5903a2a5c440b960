"""The strategies of the trainers' flag `--strategy`, the same on both backends."""

import contextlib

from keras_svag._checks import one_of
from keras_svag.distribution.placement import backend

NONE, MIRRORED, MULTI_WORKER, TPU = "none", "mirrored", "multi_worker", "tpu"
STRATEGIES = (NONE, MIRRORED, MULTI_WORKER, TPU)


class ProcessLostError(RuntimeError):
    """Raised when another process of a `multi_worker` run has ended or cannot be reached."""

    def __init__(self):
        super().__init__(
            "Another process of this run has ended or cannot be reached, and no step can be taken "
            "without it. Look at what it printed, then start all processes again with the same "
            "command: the run goes on from its last checkpoint."
        )


@contextlib.contextmanager
def strategy_scope(strategy=NONE, tpu=None):
    """Context in which models are built and trained over several devices.

    On TensorFlow these are `tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy` and
    `TPUStrategy`; on JAX it is `keras.distribution.DataParallel` each time, over the devices of
    this machine, of all processes, or the TPU cores of this machine.

    Args:
        strategy: `"none"`; `"mirrored"`: the GPUs of this machine, or its (virtual) CPU devices if
            there is none; `"multi_worker"`: the devices of several processes, each of which runs
            the same program; `"tpu"`. Defaults to `"none"`.
        tpu: name of the TPU, for `"tpu"` on TensorFlow only. Defaults to `None`: the TPU of this
            machine.

    Yields:
        The number of replicas over which a batch is cut.

    Raises:
        ValueError: if `strategy` is unknown, `tpu` does not go with it, no TPU is found, or the
            environment does not say which processes belong to `"multi_worker"`.
        ProcessLostError: under `"multi_worker"`, when another process has ended.

    Example:

    >>> with strategy_scope("none") as replicas:
    ...     replicas
    1
    """
    one_of("strategy", strategy, STRATEGIES)
    if tpu is not None and strategy != TPU:
        raise ValueError(
            f"`tpu` is for strategy='tpu' only. Received: tpu={tpu!r}, strategy={strategy!r}. "
            "Leave it out, or use strategy='tpu'."
        )
    if strategy == NONE:
        yield 1
        return
    builders = {
        MIRRORED: backend.mirrored,
        MULTI_WORKER: backend.multi_worker,
        TPU: lambda: backend.tpu(tpu),
    }
    with builders[strategy]().scope():
        try:
            yield backend.num_replicas()
        except backend.PROCESS_ERRORS as error:
            if strategy == MULTI_WORKER and backend.is_lost_process_error(error):
                raise ProcessLostError from error
            raise
