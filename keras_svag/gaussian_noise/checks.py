"""Checks that the loss of a model is a mean of losses of single examples."""

import numpy as np
from keras import ops, tree

from keras_svag import _keras
from keras_svag.gaussian_noise.weighted import weighted_gradients
from keras_svag.trainer.structures import first_leaf, map_arrays

# A few examples suffice: a loss that is no such mean shows with any of them.
_CHECKED_EXAMPLES = 4
# Coarse enough for bfloat16; losses that are rejected are off by tens of percent.
_CHECK_TOLERANCE = 0.05


def check_loss_per_example(model, prepared, data):
    """Raises a `ValueError` if the loss of a model is not a mean over independent examples."""
    if any(map(_keras.is_overwritten, model.trainable_variables)):
        raise ValueError(
            "`model` must follow the gradient of its loss in all weights, for Gaussian noise to be "
            f"added to it. Received: model={model.name!r}, quantized to float8, whose scales do "
            "not. Leave out `model.quantize`."
        )
    batch = prepared(_few_examples(data))
    count = len(first_leaf(batch))
    _check_outputs_independent(model, batch[0])
    try:
        for position in range(count):
            _check_one_weighted(model, batch, position, count)
    finally:
        model.reset_metrics()


def _few_examples(data):
    length = len(first_leaf(data))
    rows = np.linspace(0, length - 1, min(_CHECKED_EXAMPLES, length)).astype(int)
    return map_arrays(lambda a: ops.convert_to_tensor(np.asarray(a)[rows]), data)


def _check_outputs_independent(model, x):
    """Raises if the training output for one example depends on the others in the batch."""
    state = [(v, ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    outputs = []
    for batch in (x, map_arrays(lambda a: ops.repeat(a[:1], len(a), axis=0), x)):
        outputs.append(tree.flatten(_keras.call_for_training(model, batch)))
        # Moving averages and seeds: with equal shapes and seeds, dropout masks are equal.
        for variable, value in state:
            variable.assign(value)
    for mixed, alone in zip(*outputs):
        if _differ(mixed[0], alone[0]):
            raise ValueError(
                "`model` must process each example of a batch independently of the others, which "
                f"batch normalization in training mode does not. Received: model={model.name!r}. "
                "Use another normalization, such as group norm, or set `trainable = False` on "
                "these layers."
            )


def _check_one_weighted(model, batch, position, count):
    """Raises unless all weight on one example gives the gradient of this example."""
    alone = map_arrays(lambda a: a[position : position + 1], batch)
    expected = _gradient_vector(model, alone, weights=[1.0])
    weights = np.zeros(count, np.float32)
    weights[position] = count
    if _differ(_gradient_vector(model, batch, weights), expected):
        raise ValueError(
            "The loss of `model` must be the mean over the examples of a loss of their outputs, "
            "plus weight regularizers. Losses with reduction='sum' or masked outputs, activity "
            "regularizers, and `add_loss` of something that depends on data are not supported. "
            f"Received: model={model.name!r}. Move such terms into the loss function, with the "
            "default reduction."
        )


def _gradient_vector(model, batch, weights):
    weights = ops.convert_to_tensor(np.array(weights, np.float32))
    _, _, gradients = weighted_gradients(model, *batch, weights, training=False)
    return np.concatenate([np.ravel(ops.convert_to_numpy(g)) for g in gradients])


def _differ(actual, expected):
    actual, expected = (np.asarray(a, np.float64) for a in (actual, expected))
    return np.linalg.norm(actual - expected) > _CHECK_TOLERANCE * np.linalg.norm(expected)
