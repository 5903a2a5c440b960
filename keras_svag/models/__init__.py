"""Networks of the studies, each a function that returns a Keras model of logits."""

from keras_svag.models.mlp import mlp

MODELS = {"mlp": mlp}

__all__ = ["MODELS", "mlp"]
