"""Tests of keras_svag/models/normalization.py."""

import keras
import numpy as np
import pytest

from keras_svag.models.normalization import GroupNormalization, normalization
from tests.models.network_oracle import normalize


def images(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(1.0, 2.0, (3, 4, 5, 16)).astype("float32")


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_normalizes_over_the_axes_of_its_name(norm, epsilon):
    x = images()
    got = normalization(norm, epsilon=epsilon)(x, training=True)
    # Float32 of values of order 1.
    np.testing.assert_allclose(got, normalize(x.astype(np.float64), norm, epsilon), atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
@pytest.mark.parametrize("shape", [(3, 4, 5, 16), (3, 7, 16), (2, 2, 3, 2, 16), (3, 16)])
@pytest.mark.parametrize("groups", [1, 2, 8, -1])
def test_group_norm_is_that_of_keras(groups, shape, dtype):
    x = np.random.default_rng(0).normal(1.0, 2.0, shape)
    ours, keras_own = (
        cls(groups, epsilon=1e-3, dtype=dtype)
        for cls in (GroupNormalization, keras.layers.GroupNormalization)
    )
    rng = np.random.default_rng(1)
    for layer in (ours, keras_own):
        layer.build((None, *shape[1:]))
    values = [rng.normal(size=16) for _ in range(2)]
    for layer in (ours, keras_own):
        layer.set_weights(values)
    got, expected = ours(x), keras_own(x)
    assert got.dtype == expected.dtype
    # Both compute in float32, or float64, and round once.
    epsilon = {"mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}.get(dtype, 4e-7)
    got, expected = (
        keras.ops.convert_to_numpy(keras.ops.cast(y, "float64")) for y in (got, expected)
    )
    np.testing.assert_allclose(got, expected, rtol=2 * epsilon, atol=8 * epsilon)


def test_group_norm_comes_back_from_a_file(tmp_path):
    model = keras.Sequential([keras.Input((None, 4, 16)), normalization("group", affine=True)])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert type(loaded.layers[0]) is GroupNormalization
    np.testing.assert_array_equal(loaded(images()[:, :, :4]), model(images()[:, :, :4]))


@pytest.mark.parametrize("axis", [1, 3, [1, 2]])
def test_group_norm_of_another_axis_is_refused(axis):
    with pytest.raises(ValueError, match=r"`axis` must be -1, the last one. Received: axis="):
        GroupNormalization(8, axis=axis)


def test_layer_norm_is_over_channels_height_and_width():
    y = keras.ops.convert_to_numpy(normalization("layer", epsilon=0.0)(images()))
    np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axis=(1, 2, 3)), 1, rtol=1e-5)
    assert np.abs(y.mean(axis=3)).max() > 0.1  # a pixel by itself is not normalised


def test_layer_norm_of_vectors_is_the_usual_one():
    x = images().reshape(3, -1)
    usual = keras.layers.LayerNormalization(epsilon=1e-3, center=False, scale=False)
    np.testing.assert_allclose(normalization("layer", epsilon=1e-3)(x), usual(x), atol=2e-6)


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_affine_trains_a_scale_and_an_offset(norm):
    for affine in (False, True):
        layer = normalization(norm, affine=affine, name="n")
        layer.build((None, 4, 4, 16))
        assert [tuple(w.shape) for w in layer.trainable_weights] == [(16,), (16,)] * affine


def test_a_batch_moves_the_averages_a_tenth_of_the_way():
    layer, x = normalization("batch"), images()
    layer(x, training=True)
    mean, variance = (keras.ops.convert_to_numpy(w) for w in layer.weights)
    np.testing.assert_allclose(mean, 0.1 * x.mean(axis=(0, 1, 2)), atol=1e-6)
    # The biased variance, where PyTorch has n / (n - 1) of it.
    np.testing.assert_allclose(variance, 0.9 + 0.1 * x.var(axis=(0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_what_is_constant_is_nan_without_epsilon_and_zero_with(norm):
    x = np.zeros((2, 3, 3, 16), "float32")
    assert np.isnan(normalization(norm, epsilon=0.0)(x, training=True)).all()
    np.testing.assert_array_equal(normalization(norm)(x, training=True), x)


def test_batch_norm_of_one_vector_is_nan_without_epsilon():
    x = images()[:1, 0, 0]
    assert np.isnan(normalization("batch", epsilon=0.0)(x, training=True)).all()


def test_none_is_no_layer():
    assert normalization("none") is None


@pytest.mark.parametrize("epsilon", [-1e-5, float("nan"), "0", None], ids=str)
def test_wrong_epsilon(epsilon):
    with pytest.raises(ValueError, match="`epsilon` must be a number >= 0. Received: epsilon="):
        normalization("batch", epsilon=epsilon)
