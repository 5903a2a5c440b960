"""Named data sets, and the samplers that decide which examples a step reads."""

from keras_svag.datasets.batches import SampledBatches
from keras_svag.datasets.cifar10 import cifar10
from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.digits import digits
from keras_svag.datasets.sampling import SAMPLING_MODES, Sampler

DATASETS = {"cifar10": cifar10, "digits": digits}

__all__ = [
    "DATASETS",
    "SAMPLING_MODES",
    "Dataset",
    "SampledBatches",
    "Sampler",
    "cifar10",
    "digits",
]
