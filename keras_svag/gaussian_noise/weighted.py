"""Gradients of a loss with a weight for each example."""

from keras import ops

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag.trainer.structures import map_arrays

differentiate = backend_module("keras_svag.trainer").differentiate


def weighted_gradients(model, x, y, sample_weight, weights, training=True):
    """Returns the unweighted loss, `y_pred` and the gradients of the loss weighted per example."""
    variables = model.trainable_variables
    others = [*model.non_trainable_variables, *model.metrics_variables]

    def loss_and_outputs():
        y_pred = _keras.call_for_training(model, x) if training else model(x)
        weighted = _weight_gradients(y_pred, weights)
        loss = _keras.compute_loss(model, x, y, weighted, sample_weight)
        return loss, (loss, y_pred)

    (loss, y_pred), gradients = differentiate(loss_and_outputs, lambda: variables, others)
    dense = [ops.zeros(v.shape) if g is None else g for v, g in zip(variables, gradients)]
    return loss, y_pred, dense


def _weight_gradients(outputs, weights):
    """Returns the outputs unchanged, but multiplies their gradients by the weights."""
    # The logged loss is then unweighted, and losses of any rank need no matching sample weights.

    @ops.custom_gradient
    def weighted(output):
        factor = ops.reshape(weights, [-1] + [1] * (len(output.shape) - 1))
        return output, lambda upstream: upstream * ops.cast(factor, output.dtype)

    return map_arrays(weighted, outputs)
