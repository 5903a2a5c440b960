"""Tests of keras_svag/datasets/batches.py."""

import pickle
import re

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.datasets import Normalization, PadCropFlip, SampledBatches, Sampler
from keras_svag.theory.sampling_modes import WITHOUT_REPLACEMENT


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
        batches.on_epoch_end()


def read_by_fit(batches, epochs):
    """The mean target of the first half of each step that `fit` takes."""
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(1, use_bias=False)
    model = keras_svag.SVAGModel(inputs, layer(inputs))
    model.compile(keras_svag.SVAG(0.5, ell=1), "mse", jit_compile=False)
    read = []
    for count in epochs:
        # (w - x)^2 with learning rate 1/2 puts the weight at the mean of the first half.
        note = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: read.append(layer.kernel.numpy()[0, 0])
        )
        model.fit(batches, shuffle=False, epochs=count, verbose=0, callbacks=[note])
    return np.array(read)


@pytest.mark.parametrize("workers", [1, 3])
def test_fit_reads_the_steps_in_order_with_any_number_of_workers(workers):
    target = np.arange(40.0)[:, None]
    batches = SampledBatches(np.ones((40, 1)), target, batch_size=2, seed=1, workers=workers)
    # A second `fit` goes on where the first ended.
    read = read_by_fit(batches, epochs=[2, 1])
    rows = Sampler(40, 2, seed=1).rows(0, 3 * len(batches))
    np.testing.assert_allclose(read, rows[:, ::2].mean(axis=1), rtol=1e-5)


def test_training_that_goes_on_reads_new_batches():
    x = np.arange(50)
    whole, rest = SampledBatches(x, x, 5), SampledBatches(x, x, 5, initial_epoch=1)
    whole.on_epoch_begin()
    whole.on_epoch_end()
    np.testing.assert_array_equal(whole[0][0], rest[0][0])
    assert not np.array_equal(SampledBatches(x, x, 5)[0][0], rest[0][0])


def images(count=20):
    rng = np.random.default_rng(0)
    return rng.integers(256, size=(count, 8, 8, 3), dtype=np.uint8), np.arange(count)


def test_augmentation_and_normalization_of_a_step():
    (x, y), augmentation = images(), PadCropFlip(padding=2)
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    batches = SampledBatches(
        x, y, 3, seed=4, initial_epoch=2, augmentation=augmentation, normalization=normalization
    )
    step = 2 * len(batches) + 1
    rows = Sampler(20, 3, seed=4).rows(step, step + 1)[0]
    draws = augmentation.draw(seed=4, start=step, stop=step + 1, length=6)[0]
    inputs, targets = batches[1]
    np.testing.assert_array_equal(targets, rows)
    np.testing.assert_array_equal(inputs, normalization(augmentation.apply(x[rows], draws)))
    assert inputs.dtype == np.float32


def test_example_that_is_drawn_twice_is_augmented_twice():
    # One example in all places: 40 independent crops of 162 equally likely ones. That two given
    # places agree has probability 1/162, so that 780 pairs have 4.8 that do on average.
    x, y = images(1)
    inputs, _ = SampledBatches(x, y, 20, augmentation=PadCropFlip())[0]
    different = len(np.unique(inputs.reshape(40, -1), axis=0))
    assert 28 <= different < 40


def test_copies_for_worker_processes_read_the_same():
    x, y = images()
    batches = SampledBatches(
        x, y, 3, WITHOUT_REPLACEMENT, seed=4, initial_epoch=1, augmentation=PadCropFlip()
    )
    expected = [batches[index] for index in range(len(batches))]
    copy = pickle.loads(pickle.dumps(batches))
    for index in reversed(range(len(batches))):
        for got, wanted in zip(copy[index], expected[index]):
            np.testing.assert_array_equal(got, wanted)


def test_augmentation_is_for_one_array():
    x, y = images()
    message = "`x` must be one array of images .*Received: x=dict of 2 arrays"
    with pytest.raises(ValueError, match=re.compile(message)):
        SampledBatches({"a": x, "b": x}, y, 3, augmentation=PadCropFlip())
