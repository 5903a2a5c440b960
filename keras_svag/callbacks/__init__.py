"""Callbacks for `fit`."""

from keras_svag.callbacks.advisor import BatchSizeAdvisor

__all__ = ["BatchSizeAdvisor"]
