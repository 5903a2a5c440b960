"""Tests of keras_svag/models/normalization.py."""

import keras
import numpy as np
import pytest

from keras_svag.models.normalization import GroupNormalization, normalization, with_keras_layers
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


# Of the type in which a policy rounds results; JAX has no float64 here.
ROUNDING = {
    "mixed_bfloat16": 2**-8,
    "mixed_float16": 2**-11,
    "float32": 2**-24,
    "float64": 2**-24 if keras.backend.backend() == "jax" else 2**-53,
}


def built(cls, shape, affine, **options):
    """A layer with random weights."""
    center, scale = affine
    layer = cls(epsilon=1e-3, center=center, scale=scale, **options)
    layer.build((None, *shape[1:]))
    rng = np.random.default_rng(1)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    return layer


@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("dtype", list(ROUNDING))
@pytest.mark.parametrize("shape", [(3, 4, 5, 16), (3, 7, 16), (2, 2, 3, 2, 16), (3, 16)])
@pytest.mark.parametrize("groups", [1, 8, -1])
def test_group_norm_is_that_of_keras(groups, shape, dtype, affine):
    x = np.random.default_rng(0).normal(1.0, 2.0, shape)
    options = {"groups": groups, "dtype": dtype, "affine": affine}
    layers = (GroupNormalization, keras.layers.GroupNormalization)
    got, expected = (built(cls, shape, **options)(x) for cls in layers)
    assert got.dtype == expected.dtype
    got, expected = (
        keras.ops.convert_to_numpy(keras.ops.cast(y, "float64")) for y in (got, expected)
    )
    # A result is a difference of numbers below 32: each of some eight operations rounds those by
    # half a unit (float32 and float64), or the result is rounded once (narrow types).
    unit = ROUNDING[dtype]
    is_narrow = dtype.startswith("mixed")
    error = {"rtol": 2 * unit, "atol": 1e-5} if is_narrow else {"rtol": 0, "atol": 8 * 32 * unit}
    np.testing.assert_allclose(got, expected, **error)


@pytest.mark.parametrize("shape", [(3, 4, 5, 16), (3, 16)])
@pytest.mark.parametrize("dtype", ["int32", "uint8", "float16"])
def test_group_norm_of_inputs_of_another_type_rounds_once(dtype, shape):
    x = np.random.default_rng(0).integers(0, 9, shape).astype(dtype)
    layer = GroupNormalization(8)
    np.testing.assert_array_equal(layer(x), layer(x.astype("float32")))


@pytest.mark.parametrize("shape", [(3, 4, 5, 16), (3, 16)])
def test_gradients_of_group_norm_are_those_of_keras(shape):
    x = np.random.default_rng(0).normal(1.0, 2.0, shape).astype("float32")
    directions = np.random.default_rng(2).normal(size=shape).astype("float32")
    steps = []
    for cls in (GroupNormalization, keras.layers.GroupNormalization):
        model = keras.Sequential([keras.Input(shape[1:]), keras.layers.Dense(16), cls(8)])
        model.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in model.weights])
        before = model.get_weights()
        # Not a loss that is linear in the outputs: without XLA, TensorFlow may then update gamma
        # and beta before the forward pass reads them, since their gradients need no outputs.
        model.compile(keras.optimizers.SGD(1.0), lambda y, out: keras.ops.sum((y - out) ** 2) / 2)
        model.train_on_batch(x, directions)
        steps.append([b - a for a, b in zip(model.get_weights(), before)])
    for ours, expected in zip(*steps):
        # Sums of up to 60 terms of order 10 in another order, rounded by 6e-8 each.
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-4)


def test_group_norm_comes_back_from_a_file(tmp_path):
    layers = [keras.Input((None, 4, 16)), GroupNormalization(8), GroupNormalization(1)]
    model = keras.Sequential(layers)
    model.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in model.weights])
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert [type(layer) for layer in loaded.layers] == 2 * [GroupNormalization]
    np.testing.assert_array_equal(loaded(images()[:, :, :4]), model(images()[:, :, :4]))


def test_network_with_layers_of_keras_alone():
    inner = keras.Sequential([keras.Input((4, 16)), GroupNormalization(8), keras.layers.ReLU()])
    norm, layers = keras.layers.GroupNormalization, keras.layers
    model = keras.Sequential([inner, GroupNormalization(2, scale=False), layers.Dropout(0.5)])
    model.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in model.weights])
    model(images()[:, 0, :4], training=True)  # moves the seed of dropout
    copy = with_keras_layers(model)
    kinds = [type(layer) for layer in (*copy.layers[0].layers, *copy.layers[1:])]
    assert kinds == [norm, layers.ReLU, norm, layers.Dropout]
    for new, old in zip(copy.variables, model.variables, strict=True):
        np.testing.assert_array_equal(new, old)
    # As in the comparison with Keras' layer, twice.
    np.testing.assert_allclose(copy(images()[:, 0, :4]), model(images()[:, 0, :4]), atol=4e-5)
    assert with_keras_layers(copy) is copy
    assert type(model.layers[1]) is GroupNormalization  # as it was


def test_network_with_a_class_that_no_file_knows_is_left_as_it_is():
    class Local(keras.layers.Layer):
        def call(self, x):
            return x

    model = keras.Sequential([keras.Input((4, 16)), Local(), GroupNormalization(8)])
    assert with_keras_layers(model) is model


def test_group_norm_of_examples_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"shape \(batch, ..., channels\). Received: .*\(16,\)"):
        GroupNormalization(4)(np.ones(16, "float32"))


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
