"""SVAG, stochastic variance amplified gradient, for Keras.

Li, Malladi, Arora, "On the Validity of Modeling SGD with Stochastic Differential Equations (SDEs)",
NeurIPS 2021, arXiv 2102.12470.
"""

import importlib
import typing

from keras_svag._backend import check_backend

check_backend()

from keras_svag import callbacks, noise, theory  # noqa: E402, F401
from keras_svag.advice import probe_throughput  # noqa: E402
from keras_svag.optimizers import SVAG, SVAGAdam, SVAGAdamW, SVAGRMSprop  # noqa: E402
from keras_svag.optimizers.scaling import scale_optimizer  # noqa: E402
from keras_svag.schedules import ScaledSchedule  # noqa: E402
from keras_svag.theory import svag_coefficients, svag_epochs, svag_steps  # noqa: E402
from keras_svag.trainer import (  # noqa: E402
    SVAGFunctional,
    SVAGModel,
    SVAGSequential,
    from_keras,
)
from keras_svag.version import __version__  # noqa: E402

if typing.TYPE_CHECKING:
    from keras_svag.recipe import Recipe
    from keras_svag.studies import check_linear_scaling, check_sde

__all__ = [
    "SVAG",
    "Recipe",
    "SVAGAdam",
    "SVAGAdamW",
    "SVAGFunctional",
    "SVAGModel",
    "SVAGRMSprop",
    "SVAGSequential",
    "ScaledSchedule",
    "__version__",
    "check_linear_scaling",
    "check_sde",
    "from_keras",
    "probe_throughput",
    "scale_optimizer",
    "svag_coefficients",
    "svag_epochs",
    "svag_steps",
]

# Imported lazily: studies pull in matplotlib and tensorboard.
_LAZY = {
    "Recipe": "keras_svag.recipe",
    "check_linear_scaling": "keras_svag.studies",
    "check_sde": "keras_svag.studies",
}


def __getattr__(name):
    if name == "studies":
        return importlib.import_module("keras_svag.studies")
    if name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
        return globals().setdefault(name, value)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, "studies"})
