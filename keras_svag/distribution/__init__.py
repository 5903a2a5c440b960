"""Training over several devices and machines, with what the Keras backends have for it."""

from keras_svag.distribution.placement import (
    check_batch_size,
    is_distributed,
    num_replicas,
    resident,
)
from keras_svag.distribution.processes import is_chief, on_any_process
from keras_svag.distribution.scope import STRATEGIES, ProcessLostError, strategy_scope
from keras_svag.distribution.shared_folder import process_workdir

__all__ = [
    "STRATEGIES",
    "ProcessLostError",
    "check_batch_size",
    "is_chief",
    "is_distributed",
    "num_replicas",
    "on_any_process",
    "process_workdir",
    "resident",
    "strategy_scope",
]
