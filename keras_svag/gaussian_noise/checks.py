"""What a model must be for `GaussianNoiseLoop`: its loss a mean of losses of single examples."""

import numpy as np
from keras import ops, tree

from keras_svag import _keras
from keras_svag.gaussian_noise.weighted import weighted_gradients
from keras_svag.trainer.structures import first_leaf, map_arrays

# The checks look at few examples: what they look for does not hide in one of many.
_CHECKED_EXAMPLES = 4
# Coarse enough for bfloat16. What is refused is off by tens of per cent.
_CHECK_TOLERANCE = 0.05


def check_loss_per_example(model, prepared, data):
    """Refuses a model whose loss is not a mean over examples, each on its own.

    Args:
        model: a built, compiled `keras.Model`.
        prepared: function that gives `(x, y, sample_weight)`, as the model is to see it, of a
            part of the data.
        data: structure of arrays as `fit` takes it.

    Raises:
        ValueError: naming what it is about the model.
    """
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
    """What the model gives for one example must not depend on the others, even in training."""
    state = [(v, ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    outputs = []
    for batch in (x, map_arrays(lambda a: ops.repeat(a[:1], len(a), axis=0), x)):
        outputs.append(tree.flatten(_keras.call_for_training(model, batch)))
        # Moving averages, and seeds: of equal shape and seed, masks of dropout are the same.
        for variable, value in state:
            variable.assign(value)
    for mixed, alone in zip(*outputs):
        if _differ(mixed[0], alone[0]):
            raise ValueError(
                "`model` must give each example its output independently of the others in the "
                "batch; batch normalisation in training mode does not, so that there is no loss "
                f"per example to weight. Received: model={model.name!r}. Use another "
                "normalisation, such as group norm, or set `trainable = False` on these layers."
            )


def _check_one_weighted(model, batch, position, count):
    """With all the weight on one example, the gradient must be that of this example alone."""
    alone = map_arrays(lambda a: a[position : position + 1], batch)
    expected = _gradient_vector(model, alone, weights=[1.0])
    weights = np.zeros(count, np.float32)
    weights[position] = count
    if _differ(_gradient_vector(model, batch, weights), expected):
        raise ValueError(
            "The loss of `model` must be the mean over the examples of a loss of their outputs, "
            "to which weight regularisers may be added. Not so are losses with "
            "reduction='sum', losses over masked outputs, `add_loss` with something that depends "
            f"on data, and activity regularisers. Received: model={model.name!r}. Put such terms "
            "into the loss function, with the default reduction."
        )


def _gradient_vector(model, batch, weights):
    weights = ops.convert_to_tensor(np.array(weights, np.float32))
    _, _, gradients = weighted_gradients(model, *batch, weights, training=False)
    return np.concatenate([np.ravel(ops.convert_to_numpy(g)) for g in gradients])


def _differ(actual, expected):
    actual, expected = (np.asarray(a, np.float64) for a in (actual, expected))
    return np.linalg.norm(actual - expected) > _CHECK_TOLERANCE * np.linalg.norm(expected)
