"""SVAG versions of the Keras optimizers."""

from keras_svag.optimizers import keras_rules as keras_rules
from keras_svag.optimizers.amplification import AmplificationMixin
from keras_svag.optimizers.registry import (
    get_svag_class,
    register_scaling_rule,
    svag_class_for,
    svag_classes,
    svag_version,
)
from keras_svag.optimizers.scaling import scale_optimizer
from keras_svag.optimizers.svag import SVAG
from keras_svag.optimizers.svag_adam import SVAGAdam, SVAGAdamW
from keras_svag.optimizers.svag_rmsprop import SVAGRMSprop

__all__ = [
    "SVAG",
    "AmplificationMixin",
    "SVAGAdam",
    "SVAGAdamW",
    "SVAGRMSprop",
    "get_svag_class",
    "register_scaling_rule",
    "scale_optimizer",
    "svag_class_for",
    "svag_classes",
    "svag_version",
]
