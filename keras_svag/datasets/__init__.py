"""Named data sets, and the samplers that decide which examples a step reads."""

from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.digits import digits
from keras_svag.datasets.sampling import SAMPLING_MODES, Sampler

DATASETS = {"digits": digits}

__all__ = ["DATASETS", "SAMPLING_MODES", "Dataset", "Sampler", "digits"]
