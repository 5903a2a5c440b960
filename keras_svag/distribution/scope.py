"""The strategies of the flag `--strategy`, the same on both backends."""

import contextlib

from keras_svag._checks import one_of
from keras_svag.distribution.peers import ProcessLostError, describe_software, joined
from keras_svag.distribution.placement import backend

NONE, MIRRORED, MULTI_WORKER, TPU = "none", "mirrored", "multi_worker", "tpu"
STRATEGIES = (NONE, MIRRORED, MULTI_WORKER, TPU)


@contextlib.contextmanager
def strategy_scope(strategy=NONE, tpu=None, join_timeout=30.0):
    """Opens a context for training over several devices; yields the number of replicas."""
    one_of("strategy", strategy, STRATEGIES)
    if tpu is not None and strategy != TPU:
        raise ValueError(
            f"`tpu` requires strategy='tpu'. Received: tpu={tpu!r}, strategy={strategy!r}. "
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
    with contextlib.ExitStack() as stack:
        if strategy == MULTI_WORKER and (cluster := backend.find_cluster()) is not None:
            addresses, index, num_processes = cluster
            settings = {"num_processes": num_processes, **describe_software()}
            stack.enter_context(joined(addresses, index, settings, join_timeout))
        stack.enter_context(builders[strategy]().scope())
        try:
            yield backend.num_replicas()
        except backend.PROCESS_ERRORS as error:
            if strategy == MULTI_WORKER and backend.is_lost_process_error(error):
                raise ProcessLostError from error
            raise
