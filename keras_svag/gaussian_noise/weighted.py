"""Gradients of a loss that is weighted example by example."""

from keras import ops

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag.trainer.structures import map_arrays

differentiate = backend_module("keras_svag.trainer").differentiate


def weighted_gradients(model, x, y, sample_weight, weights, training=True):
    """Gradient of the loss weighted example by example, and the loss without weights.

    Args:
        model: a built, compiled `keras.Model`.
        x: inputs as the model takes them.
        y: targets.
        sample_weight: sample weights, or `None`.
        weights: float tensor of shape `(examples,)`.
        training: whether the forward pass is one of training. Defaults to `True`.

    Returns:
        A tuple `(loss, y_pred, gradients)`; the gradients are a list of dense tensors.
    """
    variables = model.trainable_variables
    others = [*model.non_trainable_variables, *model.metrics_variables]

    def loss_and_outputs():
        y_pred = _keras.call_for_training(model, x) if training else model(x)
        weighted = _weight_gradients(y_pred, weights)
        loss = _keras.loss_for_training(model, x, y, weighted, sample_weight)
        return loss, (loss, y_pred)

    (loss, y_pred), gradients = differentiate(loss_and_outputs, lambda: variables, others)
    dense = [ops.zeros(v.shape) if g is None else g for v, g in zip(variables, gradients)]
    return loss, y_pred, dense


def _weight_gradients(outputs, weights):
    """Returns `outputs` as they are, but multiplies what is propagated back by the weights.

    The gradient is that of the weighted loss; the loss itself is the unweighted one, which is what
    to log, and losses of any rank need no sample weights that fit.
    """

    @ops.custom_gradient
    def weighted(output):
        factor = ops.reshape(weights, [-1] + [1] * (len(output.shape) - 1))
        return output, lambda upstream: upstream * ops.cast(factor, output.dtype)

    return map_arrays(weighted, outputs)
