"""Many steps in one program of JAX: what becomes of the state that it is given."""

import keras
import numpy as np
import pytest

from tests.fused_steps.fused_steps_test import K, compiled, data, network

pytestmark = pytest.mark.requires_jax


def test_old_state_is_given_to_the_program_and_kept_where_there_is_no_batch():
    model = compiled(network(), K)
    model.optimizer.build(model.trainable_variables)
    x, y = data(16)
    model.evaluate(x, y, verbose=0)  # makes the variables of the metrics
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([keras.ops.copy(v.value) for v in group] for group in variables)
    take = model.make_train_function()
    with pytest.raises(StopIteration):
        take(state, iter([]))
    leaves = keras.tree.flatten(state)
    assert not any(leaf.is_deleted() for leaf in leaves)
    logs, new = take(state, iter([(x[:8], y[:8], None), (x[8:], y[8:], None)]))
    assert all(leaf.is_deleted() for leaf in leaves)
    assert int(new[2][0]) == 2  # the optimizer's count of steps
    assert np.isfinite(logs["gradient_noise"])
