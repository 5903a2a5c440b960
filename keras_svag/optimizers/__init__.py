"""SVAG versions of the Keras optimizers."""

from keras_svag.optimizers.amplification import AmplificationMixin
from keras_svag.optimizers.svag import SVAG
from keras_svag.optimizers.svag_adam import SVAGAdam, SVAGAdamW
from keras_svag.optimizers.svag_rmsprop import SVAGRMSprop

__all__ = ["SVAG", "AmplificationMixin", "SVAGAdam", "SVAGAdamW", "SVAGRMSprop"]
