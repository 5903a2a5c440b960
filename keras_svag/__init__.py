"""SVAG, stochastic variance amplified gradient, for Keras.

Li, Malladi, Arora, "On the Validity of Modeling SGD with Stochastic Differential Equations (SDEs)",
NeurIPS 2021, arXiv 2102.12470.
"""

import importlib
import typing

from keras_svag._backend import check_backend

check_backend()

from keras_svag import callbacks  # noqa: E402, F401
from keras_svag.coefficients import svag_coefficients, svag_epochs, svag_steps  # noqa: E402
from keras_svag.optimizers import (  # noqa: E402
    SVAG,
    SVAGAdam,
    SVAGAdamW,
    SVAGRMSprop,
    scale_optimizer,
)
from keras_svag.trainer import (  # noqa: E402
    SVAGFunctional,
    SVAGModel,
    SVAGSequential,
    from_keras,
)
from keras_svag.version import __version__  # noqa: E402

if typing.TYPE_CHECKING:
    from keras_svag.study.check import check_sde

__all__ = [
    "SVAG",
    "SVAGAdam",
    "SVAGAdamW",
    "SVAGFunctional",
    "SVAGModel",
    "SVAGRMSprop",
    "SVAGSequential",
    "__version__",
    "check_sde",
    "from_keras",
    "scale_optimizer",
    "svag_coefficients",
    "svag_epochs",
    "svag_steps",
]


def __getattr__(name):
    # Studies need matplotlib, tensorboard and more, which who only trains need not wait for.
    if name == "study":
        return importlib.import_module("keras_svag.study")
    if name == "check_sde":
        value = importlib.import_module("keras_svag.study.check").check_sde
        return globals().setdefault(name, value)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
