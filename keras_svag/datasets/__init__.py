"""Data sets, augmentation, and the samplers that draw the batches of each step."""

from keras_svag.datasets.augmentation import PadCropFlip
from keras_svag.datasets.batches import SampledBatches
from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.digits import digits
from keras_svag.datasets.images import cifar10, cifar100, svhn
from keras_svag.datasets.normalization import Normalization
from keras_svag.datasets.sampling import SAMPLING_MODES, Sampler
from keras_svag.datasets.text import text
from keras_svag.datasets.tfds.by_name import tfds
from keras_svag.datasets.uniform import UniformAugmentation

DATASETS = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "svhn": svhn,
    "text": text,
    "tfds": tfds,
}

__all__ = [
    "DATASETS",
    "SAMPLING_MODES",
    "Dataset",
    "Normalization",
    "PadCropFlip",
    "SampledBatches",
    "Sampler",
    "UniformAugmentation",
    "cifar10",
    "cifar100",
    "digits",
    "svhn",
    "text",
    "tfds",
]
