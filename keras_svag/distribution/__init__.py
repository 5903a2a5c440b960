"""Training over several devices and machines, with what the Keras backends have for it."""

from keras_svag.distribution.placement import (
    check_batch_size,
    is_distributed,
    num_replicas,
    resident,
)
from keras_svag.distribution.scope import STRATEGIES, ProcessLostError, strategy_scope
from keras_svag.distribution.shared_folder import is_chief, process_workdir

__all__ = [
    "STRATEGIES",
    "ProcessLostError",
    "check_batch_size",
    "is_chief",
    "is_distributed",
    "num_replicas",
    "process_workdir",
    "resident",
    "strategy_scope",
]
