"""What both backends hand to XLA: the same convolutions and matrix products."""

import json

import pytest

from tests.backends import run_code

PRODUCTS = """
import json, sys

import keras

from benchmarks.sides import networks
from keras_svag.accelerators import hlo

name, options = sys.argv[1], json.loads(sys.argv[2])
model = networks.svag(name, **options)
x, y = networks.examples(name, 8)
model.train_on_batch(x, y)
if keras.backend.backend() == "jax":
    import jax
    from keras_svag.trainer.jax import state_of, values_of

    lowered = jax.jit(model.train_step).lower(values_of(state_of(model)), (x, y))
    text = lowered.compiler_ir("hlo").as_hlo_text()
else:
    import tensorflow as tf

    step = tf.function(model.train_step, jit_compile=True, autograph=False)
    batch = tf.constant(x), tf.constant(y)
    text = step.experimental_get_compiler_ir(batch)(stage="hlo")
products = filter(hlo.is_convolution, hlo.Module(text).instructions)
sizes = [sorted(map(int, p.shapes[0].dimensions.split(","))) for p in products]
print(json.dumps(sorted(sizes)))
"""


def products(backend, name, options):
    """Dimensions of the results of all products of an SVAG step, sorted."""
    printed = run_code(PRODUCTS, name, json.dumps(options), backend=backend)
    return json.loads(printed.splitlines()[-1])


# TensorFlow's gradient of a convolution has that of its input too; XLA removes what is not used.
IMAGES = [3, 4, 32, 32]


@pytest.mark.slow
@pytest.mark.requires_jax  # once for both
@pytest.mark.parametrize(
    ("name", "options", "unused", "count"),
    [
        # Two halves, each with a forward pass, gradients of kernels, and gradients of inputs except
        # the first.
        ("mlp", {}, [], 2 * (3 + 3 + 2)),
        ("preresnet", {"depth": 8, "norm": "batch"}, [IMAGES, IMAGES], 2 * (11 + 11 + 10)),
    ],
)
def test_both_backends_multiply_the_same(name, options, unused, count):
    pytest.importorskip("tensorflow")
    options = {**options, "train_last_layer": True}
    found = {backend: products(backend, name, options) for backend in ("tensorflow", "jax")}
    assert found["tensorflow"] == sorted(found["jax"] + unused)
    assert len(found["jax"]) == count
