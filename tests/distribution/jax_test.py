"""What devices send each other in a step on JAX."""

import json

import pytest

from tests.backends import run_code

pytestmark = pytest.mark.requires_jax

STEP = """
import json

import jax, keras, numpy as np

import keras_svag
from keras_svag.accelerators import hlo
from keras_svag.distribution import strategy_scope
from keras_svag.distribution.jax import sharded
from keras_svag.models import mlp
from keras_svag.trainer.jax import state_of, values_of

with strategy_scope("mirrored"):
    model = keras_svag.from_keras(mlp((8, 8), 10, seed=0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras_svag.SVAG(0.2, ell=4), loss, metrics=["accuracy"], jit_compile=True)
    batch = sharded((np.ones((32, 8, 8), "float32"), np.ones(32, "int32")))
    model.train_on_batch(*batch)
    state = values_of(state_of(model))
    shardings = None, jax.tree.map(lambda value: value.sharding, state)
    step = jax.jit(model.train_step, out_shardings=shardings)
    text = step.lower(state, batch).compile().as_text()
print(json.dumps(hlo.count_collectives(hlo.Module(text))))
"""


def test_devices_send_each_other_sums_only():
    # Neither examples nor predictions: the halves of a batch, and what is joined for the metrics,
    # stay where they are.
    flags = "--xla_force_host_platform_device_count=4"
    collectives = json.loads(run_code(STEP, backend="jax", XLA_FLAGS=flags))
    assert set(collectives) == {"all-reduce"}
    # Both halves' gradients of two kernels, and a few numbers.
    assert 2 * 4 * 2 * 64 * 64 <= collectives["all-reduce"]["bytes"] < 2 * 4 * 2 * 64 * 64 + 200
