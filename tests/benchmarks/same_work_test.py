"""Both sides of a comparison do the same work: the same weights after the same steps."""

import numpy as np
import pytest

from benchmarks.figures import separate_measurement_batches
from benchmarks.processes import in_fresh_process
from benchmarks.sides import networks, pytorch
from benchmarks.sides.tensorflow import bare_loop_and_ours, gradient_side
from keras_svag.device_loop import DeviceTrainLoop

pytestmark = pytest.mark.requires_tensorflow


def test_bare_loop_takes_the_steps_of_ours():
    model, loop, bare, rows = bare_loop_and_ours(batch_size=4, steps=8, count=64)
    before = [w.numpy() for w in model.trainable_weights]
    loop.run(rows)
    bare.run(rows)
    for start, ours, theirs in zip(before, model.trainable_weights, bare.weights, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours.numpy(), rtol=0, atol=1e-5)
        assert np.abs(ours.numpy() - start).max() > 1e-2  # far more than the tolerance


@pytest.mark.skipif(not pytorch.is_installed(), reason="needs PyTorch")
@pytest.mark.parametrize(
    "name, options",
    [
        ("mlp", {}),
        ("mlp", {"norm": "batch"}),
        pytest.param("preresnet", {"depth": 8, "norm": "batch"}, marks=pytest.mark.slow),
        pytest.param("preresnet", {"depth": 14, "norm": "group"}, marks=pytest.mark.slow),
        pytest.param("preresnet_16x16", {"depth": 8, "norm": "group"}, marks=pytest.mark.slow),
    ],
)
def test_pytorch_takes_the_steps_of_ours(name, options):
    data = networks.examples(name, 32)
    rows = networks.row_table(32, steps=3, batch_size=4)
    setting = networks.pytorch_setting(name, data, **options)
    theirs = in_fresh_process(pytorch.kernels_after, setting, rows)
    model = networks.svag(name, **options)
    before = networks.kernels_of(model)
    DeviceTrainLoop(model, data, 3).run(rows)
    ours = networks.kernels_of(model)
    assert ours.keys() == theirs.keys()
    for layer, kernel in ours.items():
        # float32, sums in another order: 1e-5 of weights of order 1; they move ten times as far.
        np.testing.assert_allclose(theirs[layer], kernel, rtol=0, atol=1e-5, err_msg=layer)
        moved = np.abs(kernel - before[layer]).max()
        assert moved == 0 if layer == "logits" else moved > 1e-4, layer


def test_number_of_batches_of_a_separate_measurement():
    # 200 batches, but never fewer than 12,800 examples.
    assert [separate_measurement_batches(b) for b in (8, 64, 128, 1024)] == [1600, 200, 200, 200]


def test_separate_measurement_has_the_gradients_of_its_batch():
    model = networks.plain("mlp")
    side = gradient_side("gradient", model, networks.examples("mlp", 8))
    before = model.get_weights()
    side.run(3)
    for start, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(start, now)  # it measures, it does not train
