"""Networks of the studies, each a function that returns a Keras model of logits."""

from keras_svag.models.mlp import mlp
from keras_svag.models.preresnet import preresnet
from keras_svag.models.resnet import resnet
from keras_svag.models.scale_invariance import is_scale_invariant
from keras_svag.models.vgg import vgg

MODELS = {"mlp": mlp, "preresnet": preresnet, "resnet": resnet, "vgg": vgg}

__all__ = ["MODELS", "is_scale_invariant", "mlp", "preresnet", "resnet", "vgg"]
