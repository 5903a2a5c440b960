"""SVAG versions of the Keras optimizers."""

from keras_svag.optimizers.amplification import AmplificationMixin
from keras_svag.optimizers.svag import SVAG

__all__ = ["SVAG", "AmplificationMixin"]
