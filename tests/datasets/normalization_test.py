"""Tests of keras_svag/datasets/normalization.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_svag.datasets import Normalization
from keras_svag.datasets.images import CIFAR_MEAN as MEAN
from keras_svag.datasets.images import CIFAR_STD as STD

NORMALIZATION = Normalization(MEAN, STD)


def test_values_by_hand():
    # (51 / 255 - 0.1) / 0.2 = 0.5; (255 / 255 - 0.5) / 0.25 = 2; (0 - 0.5) / 0.25 = -2.
    normalize = Normalization((0.1, 0.5, 0.5), (0.2, 0.25, 0.25))
    got = normalize(np.array([[51, 255, 0]], np.uint8))
    assert got.dtype == np.float32 and type(got) is np.ndarray
    np.testing.assert_allclose(got, [[0.5, 2.0, -2.0]], rtol=1e-6)


def test_pixels_come_back():
    pixels = np.random.default_rng(0).integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
    restored = (np.float64(NORMALIZATION(pixels)) * NORMALIZATION.std + NORMALIZATION.mean) * 255
    np.testing.assert_allclose(restored, pixels, atol=1e-4)  # 255 times a few float32 roundings


@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_tensors_get_the_same(jit):
    pixels = np.arange(256 * 3).reshape(256, 3).astype(np.uint8)
    call = NORMALIZATION if jit is None else tf.function(NORMALIZATION, jit_compile=jit)
    got = call(keras.ops.convert_to_tensor(pixels))
    assert got.dtype == tf.float32
    # Compilers divide by multiplying with the reciprocal: some units in the last place of x/255
    # and mean, which are below 1, over std of at least 0.19.
    np.testing.assert_allclose(got, NORMALIZATION(pixels), rtol=0, atol=4 * 2**-23 / 0.19)


def test_is_a_value():
    assert Normalization([0, 0.5], [1, 2]) == Normalization((0.0, 0.5), (1.0, 2.0))
    assert hash(Normalization([0.5], [1])) == hash(Normalization((0.5,), (1.0,)))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((), (), "one number for each channel"),
        ((0.5, 0.5), (0.5,), "one number for each channel. Received: mean=.0.5, 0.5., std=.0.5,."),
        ((0.5,), (0.0,), "`std` must be numbers > 0. Received: std=0.0"),
        ((float("nan"),), (1.0,), "`mean` must be finite numbers. Received: mean=nan"),
    ],
)
def test_wrong_constants(mean, std, message):
    with pytest.raises(ValueError, match=message):
        Normalization(mean, std)


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 3), np.float32), np.zeros((2, 1), np.uint8)], ids=["float", "grey"]
)
def test_wrong_pixels(pixels):
    with pytest.raises(ValueError, match="integers 0 to 255 with 3 channels.*Received: dtype="):
        NORMALIZATION(pixels)
