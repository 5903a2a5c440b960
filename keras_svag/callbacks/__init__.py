"""Callbacks for `fit`."""

from keras_svag.callbacks.advisor import BatchSizeAdvisor
from keras_svag.callbacks.schedule import BatchSizeSchedule

__all__ = ["BatchSizeAdvisor", "BatchSizeSchedule"]
