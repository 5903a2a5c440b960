"""Tests of keras_svag/datasets/batches.py."""

import keras
import numpy as np

import keras_svag
from keras_svag.datasets import SampledBatches, Sampler


def test_batches_are_the_rows_of_the_sampler_epoch_after_epoch():
    x, y = np.arange(50), {"target": np.arange(50) * 10}
    batches = SampledBatches(x, y, batch_size=5, seed=3)
    sampler = Sampler(50, 5, seed=3)
    assert len(batches) == sampler.steps_per_epoch == 5
    for epoch in range(2):
        batches.on_epoch_begin()
        for index in range(5):
            inputs, targets = batches[index]
            np.testing.assert_array_equal(inputs, sampler.rows(0, 10)[5 * epoch + index])
            np.testing.assert_array_equal(targets["target"], 10 * inputs)


def test_fit_reads_other_batches_each_epoch():
    # The weight is the running mean of what was read (learning rate 1 on (w - x)^2 / 2 at
    # ell = 1 puts it at the mean of the first half): two epochs end at different batches.
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(1, use_bias=False)
    model = keras_svag.SVAGModel(inputs, layer(inputs))
    model.compile(keras_svag.SVAG(0.5, ell=1), "mse", jit_compile=False)
    target = np.arange(40.0)[:, None]
    batches = SampledBatches(np.ones((40, 1)), target, batch_size=2, seed=1)
    rows = Sampler(40, 2, seed=1).rows(0, 3 * len(batches))
    for epochs in ([0], [1, 2]):
        model.fit(batches, shuffle=False, epochs=len(epochs), verbose=0)
        last = rows[(epochs[-1] + 1) * len(batches) - 1]
        np.testing.assert_allclose(layer.kernel.numpy()[0, 0], last[::2].mean(), rtol=1e-5)


def test_training_that_goes_on_reads_new_batches():
    x = np.arange(50)
    whole, rest = SampledBatches(x, x, 5), SampledBatches(x, x, 5, initial_epoch=1)
    for _ in range(2):
        whole.on_epoch_begin()
    rest.on_epoch_begin()
    np.testing.assert_array_equal(whole[0][0], rest[0][0])
