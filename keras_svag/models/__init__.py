"""Networks of the paper and of the studies, with arguments that decide if they are scale invariant.

They follow the code of Li, Malladi, Arora 2021 (arXiv 2102.12470): convolutions and hidden layers
have no bias, kernels are drawn normal (not truncated) with variance 2 / fan_in unless stated
otherwise, group norm has 8 groups, and layer norm is one group over channels, height and width.
Unlike theirs, epsilon defaults to 1e-5 instead of 0 (see `keras_svag.models.normalization`), and
moving variances follow the biased variance of the batch (PyTorch's the unbiased one).
"""

from keras_svag.models.gpt import gpt
from keras_svag.models.mlp import mlp
from keras_svag.models.normalization import GroupNormalization
from keras_svag.models.preresnet import preresnet
from keras_svag.models.resnet import resnet
from keras_svag.models.scale_invariance import is_scale_invariant
from keras_svag.models.vgg import vgg

MODELS = {"gpt": gpt, "mlp": mlp, "preresnet": preresnet, "resnet": resnet, "vgg": vgg}

__all__ = [
    "GroupNormalization",
    "MODELS",
    "gpt",
    "is_scale_invariant",
    "mlp",
    "preresnet",
    "resnet",
    "vgg",
]
