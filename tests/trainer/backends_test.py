"""The same training on both backends."""

import numpy as np
import pytest

from tests.backends import run_code

pytestmark = pytest.mark.requires_jax  # once is enough
pytest.importorskip("tensorflow")

# All but chance, of which each backend has its own: batch norm, a penalty, sample weights, a rest.
TRAIN = """
import sys
import keras, numpy as np, keras_svag

start = np.load(sys.argv[1])
rng = np.random.default_rng(0)
x, y = rng.normal(size=(95, 5)).astype("float32"), rng.integers(3, size=95)
sample_weight = np.linspace(0.5, 1.5, 95)
ends = {}
for name, optimizer in {
    "svag": keras_svag.SVAG(0.5, ell=3, momentum=0.5, weight_decay=0.01),
    "adam": keras.optimizers.Adam(0.02),
}.items():
    inputs = keras.Input((5,))
    # A bias before batch norm has a gradient of rounding errors, which Adam makes large.
    penalty = keras.regularizers.L2(0.01)
    hidden = keras.layers.Dense(6, use_bias=False, kernel_regularizer=penalty)(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.8, epsilon=0.1)(hidden)
    outputs = keras.layers.Dense(3)(keras.layers.Activation("tanh")(hidden))
    model = keras_svag.SVAGModel(inputs, outputs)
    model.set_weights([start[f"arr_{i}"] for i in range(len(start.files))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=True)
    history = model.fit(x, y, 16, 2, 0, sample_weight=sample_weight, shuffle=False).history
    ends |= {f"{name}_{log}": values for log, values in history.items()}
    ends |= {f"{name}_{i}": weight for i, weight in enumerate(model.get_weights())}
np.savez(sys.argv[2], **ends)
"""


def test_both_backends_end_at_the_same_weights_and_logs(tmp_path):
    rng = np.random.default_rng(1)
    shapes = [(5, 6), (6,), (6,), (6,), (6,), (6, 3), (3,)]
    start = [0.3 * rng.uniform(0.5, 1.5, size=shape) for shape in shapes]
    np.savez(tmp_path / "start.npz", *start)
    ends = {}
    for backend in ("tensorflow", "jax"):
        path = tmp_path / f"{backend}.npz"
        run_code(TRAIN, tmp_path / "start.npz", path, backend=backend)
        ends[backend] = np.load(path)
    assert ends["jax"].files == ends["tensorflow"].files
    for name in ("svag", "adam"):
        assert np.abs(ends["jax"][f"{name}_0"] - start[0]).max() > 0.01
    for name in ends["jax"].files:
        # Twelve steps of float32, 1e-7 each, which Adam divides by the root of a second moment.
        values = (ends[backend][name] for backend in ("jax", "tensorflow"))
        np.testing.assert_allclose(*values, rtol=1e-4, atol=2e-5, err_msg=name)
