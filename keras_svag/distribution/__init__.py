"""Data-parallel training over several devices and machines."""

from keras_svag.distribution.placement import (
    check_batch_size,
    is_distributed,
    num_replicas,
    to_device,
)
from keras_svag.distribution.processes import (
    check_same_on_all,
    gather,
    is_chief,
    max_over_processes,
    num_processes,
)
from keras_svag.distribution.scope import STRATEGIES, ProcessLostError, strategy_scope

__all__ = [
    "STRATEGIES",
    "ProcessLostError",
    "check_batch_size",
    "check_same_on_all",
    "gather",
    "is_chief",
    "is_distributed",
    "num_replicas",
    "max_over_processes",
    "num_processes",
    "to_device",
    "strategy_scope",
]
