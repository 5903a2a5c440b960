"""Test for scale invariance of a model."""

from typing import Any

import keras
import numpy as np

from keras_svag._checks import finite_float
from keras_svag._keras import training_argument


def is_scale_invariant(
    model: keras.Model, x: Any, factor: float = 10.0, tolerance: float = 1e-4
) -> bool:
    """Returns True if multiplying all trained weights by a number leaves the outputs unchanged.

    The conditions for the validity of the SDE and of the linear scaling rule (Li, Malladi, Arora
    2021, arXiv 2102.12470, section 5) hold for scale invariant losses, `L(c w) = L(w)` for all c >
    0. This compares the outputs at `w` and at `factor * w` on one batch: the norm of their
    difference must be within `tolerance` times that of the outputs at `w`. False is certain, True
    is not a proof.

    The model runs in training mode: batch norm with the statistics of the batch (its moving
    averages do not follow the scale), dropout with the same mask twice. The model is not modified.

    With `epsilon > 0` in normalizations, scaling by c is equivalent to epsilon / c^2 at the old
    weights, so no such network is exactly invariant. `factor > 1` compares with almost no epsilon:
    the test tells if epsilon matters at these weights. Weight decay may change that, so test again
    after training.

    Args:
        model: a built `keras.Model`.
        x: inputs of the model, a batch of at least two examples if there is batch norm.
        factor: number > 1. Defaults to `10.0`, as in the authors' code.
        tolerance: number > 0. Defaults to `1e-4`, as in the authors' code.

    Returns:
        A bool; False also if the scaled outputs are not finite.

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
    # False for NaN, True for outputs that are zero for all weights.
    return bool(difference <= tolerance * np.linalg.norm(before))


def _outputs(model, x, factor):
    """All outputs in one float64 vector, with trained weights times `factor`."""
    # Stateless, so that moving averages and random states of the model stay as they are.
    outputs, _ = model.stateless_call(
        [factor * weight.value for weight in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
        x,
        **training_argument(model, True),
    )
    outputs = [keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(outputs)]
    return np.concatenate([np.ravel(leaf) for leaf in outputs]).astype(np.float64)
