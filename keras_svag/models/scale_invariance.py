"""Whether scaling all that a model trains leaves its outputs alone."""

import keras
import numpy as np

from keras_svag._checks import finite_float
from keras_svag._keras import training_argument


def is_scale_invariant(model, x, factor=10.0, tolerance=1e-4):
    """Says whether the outputs stay the same when all trained weights are multiplied by a number.

    The conditions for the validity of the SDE and of the linear scaling rule (Li, Malladi, Arora
    2021, arXiv 2102.12470, section 5) hold for scale invariant networks: `L(c w) = L(w)` for all
    c > 0. This compares the outputs at `w` and at `factor * w` on one batch: if the Euclidean norm
    of their difference is within `tolerance` times the norm of the outputs at `w`, the answer is
    yes. One batch, one factor: a no is certain, a yes is not a proof.

    The model runs in training mode: batch norm with the statistics of the batch (in evaluation mode
    it divides by moving averages, which know nothing of the new scale), dropout with the same mask
    twice. Nothing about the model changes, neither weights nor moving averages nor random states.

    With `epsilon > 0` in the normalisations, scaling by c is as good as epsilon / c^2 at the old
    weights, so no such network is invariant to the letter. Scaled up (`factor > 1`, which is asked
    for) the comparison is with a network that has nearly no epsilon: it answers whether epsilon
    matters *at these weights*, and the answer tends to a limit as `factor` grows. Weights that
    weight decay has shrunk since can give another one, so ask again after training. Scaled down,
    epsilon would take over in the end whatever the network.

    Args:
        model: a built `keras.Model`.
        x: inputs of the model, a batch of at least two examples where there is batch norm.
        factor: number > 1. Defaults to `10.0`, as in the authors' code.
        tolerance: number > 0. Defaults to `1e-4`, as in the authors' code.

    Returns:
        A bool. `False` also where the scaled outputs are not finite.

    Raises:
        ValueError: if an argument is out of range or the model is not built.

    Example:

    >>> from keras_svag.models import mlp
    >>> x = np.random.default_rng(0).normal(size=(16, 64))
    >>> is_scale_invariant(mlp((64,), 10), x), is_scale_invariant(mlp((64,), 10, norm="none"), x)
    (True, False)
    """
    factor = finite_float("factor", factor, "a number > 1", 1.0, exclusive=True)
    tolerance = finite_float("tolerance", tolerance, "a number > 0", 0.0, exclusive=True)
    if not model.built:
        raise ValueError(
            "`model` must be built. Call it on a batch first. "
            f"Received: model={model.name} without weights"
        )
    before = _outputs(model, x, 1.0)
    difference = np.linalg.norm(_outputs(model, x, factor) - before)
    # Written so that NaN is a no, and outputs that are zero for all weights a yes.
    return bool(difference <= tolerance * np.linalg.norm(before))


def _outputs(model, x, factor):
    """All outputs in one float64 vector, with trained weights times `factor`, in training mode."""
    # Stateless: new moving averages and random states are returned, not stored in the model.
    outputs, _ = model.stateless_call(
        [factor * weight.value for weight in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
        x,
        **training_argument(model, True),
    )
    outputs = [keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(outputs)]
    return np.concatenate([np.ravel(leaf) for leaf in outputs]).astype(np.float64)
