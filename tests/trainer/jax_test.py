"""The split-batch train step on the JAX backend."""

import json

import keras
import numpy as np
import pytest

import keras_svag
from tests.backends import run_code

pytestmark = pytest.mark.requires_jax


def compiled_net():
    model = keras_svag.from_keras(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
    model.compile(keras_svag.SVAG(0.1, ell=2), "mse")
    return model


@pytest.mark.parametrize("arguments", [(1,), (1, 2)], ids=["batch_size", "epochs_too"])
def test_batch_size_of_one_is_refused_wherever_it_stands(arguments):
    with pytest.raises(ValueError, match="`batch_size` must be at least 2.*Received: batch_size=1"):
        compiled_net().fit(np.ones((4, 3)), np.ones((4, 1)), *arguments, verbose=0)


def test_train_step_is_pure():
    model = compiled_net()
    x, y = np.ones((4, 3)), np.zeros((4, 1))
    model.train_on_batch(x, y)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([v.value for v in group] for group in groups)
    before = [v.numpy() for group in groups for v in group]
    model.train_step(state, (x, y))
    logs, new_state = model.train_step(state, (x, y))
    for variable, value in zip((v for group in groups for v in group), before):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert [len(group) for group in new_state] == [len(group) for group in state]
    assert np.isfinite(logs["gradient_noise"])
    # d/dw of mean (w x)^2 with x = 1: all weights move alike, the step is that of one call.
    moved = [np.asarray(old - new) for old, new in zip(state[0], new_state[0])]
    prediction = float(np.sum(before[0]) + before[1][0])
    for change in moved:
        np.testing.assert_allclose(change, 0.05 * 2 * prediction, rtol=1e-5)


# Batch norm's variance and the noise would differ if each device had its own.
DATA_PARALLEL = """
import json
import keras, numpy as np, keras_svag
from keras_svag.fused_steps import FusedSteps

def train(steps=1):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Dense(4)(inputs))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(x))
    optimizer = keras_svag.SVAG(0.1, ell=2)
    model.compile(optimizer, "mse", jit_compile=True, steps_per_execution=steps)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 3)).astype("float32"), rng.normal(size=(48, 1))
    logs = model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history
    # One program of many steps is for one device.
    assert not isinstance(model.train_function, FusedSteps)
    return {"logs": logs, "weights": [w.tolist() for w in model.get_weights()]}

outcomes = [train()]
devices = keras.distribution.list_devices()
assert len(devices) == 2, devices
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
outcomes.append(train(steps=2))
print(json.dumps(outcomes))
"""


def test_data_parallelism_is_global():
    flags = "--xla_force_host_platform_device_count=2"
    printed = run_code(DATA_PARALLEL, backend="jax", XLA_FLAGS=flags)
    one, two = json.loads(printed.splitlines()[-1])
    assert one["logs"].keys() == two["logs"].keys() > {"gradient_noise", "gradient_signal"}
    for name, values in one["logs"].items():
        np.testing.assert_allclose(two["logs"][name], values, rtol=1e-4, err_msg=name)
    for a, b in zip(one["weights"], two["weights"], strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-6)
