"""Models with the split-batch train step."""

from keras_svag.trainer.model import (
    SVAGFunctional,
    SVAGModel,
    SVAGSequential,
    SVAGWrapper,
    from_keras,
)

__all__ = ["SVAGFunctional", "SVAGModel", "SVAGSequential", "SVAGWrapper", "from_keras"]
