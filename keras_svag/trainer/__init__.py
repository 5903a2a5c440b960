"""Models with the split-batch train step."""

from keras_svag.trainer.conversion import SVAGWrapper, from_keras
from keras_svag.trainer.model import SVAGFunctional, SVAGModel, SVAGSequential

__all__ = ["SVAGFunctional", "SVAGModel", "SVAGSequential", "SVAGWrapper", "from_keras"]
