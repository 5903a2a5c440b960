"""Tests of keras_svag/models/mlp.py."""

import keras
import numpy as np
import pytest

from keras_svag.models import MODELS, mlp
from keras_svag.models.normalization import normalization
from tests.mlp_oracle import DigitsNet


def data(count=50, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.3, 0.7, (count, 8, 8)).astype("float32")
    return x, rng.integers(10, size=count)


def mean_loss(model, x, y):
    return float(
        keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, model(x, training=True))
    )


def test_default_is_the_network_of_the_study():
    # Two hidden layers of 64 without bias, norms without scale and offset, last layer not trained.
    model = mlp((8, 8), 10, seed=0)
    assert [tuple(w.shape) for w in model.trainable_weights] == [(64, 64), (64, 64)]
    assert [tuple(w.shape) for w in model.non_trainable_weights] == [(64, 10)]
    assert model.output_shape == (None, 10)
    assert MODELS["mlp"] is mlp


@pytest.mark.parametrize(
    ("depth", "width", "norm"), [(2, 1, "group"), (1, 2, "group"), (3, 1, "none")], ids=str
)
def test_logits_are_those_of_numpy(depth, width, norm):
    model = mlp((8, 8), 10, depth=depth, width=width, norm=norm, epsilon=1e-3, seed=1)
    x, _ = data()
    kernels = [np.asarray(w, np.float64) for w in model.get_weights()]
    assert [k.shape[1] for k in kernels] == [64 * width] * depth + [10]
    expected = DigitsNet(norm == "group", epsilon=1e-3).logits(kernels, x.astype(np.float64))
    # Float32 against float64: logits are of order 1 with sums of 64 * width terms.
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), expected, atol=2e-5)


@pytest.mark.parametrize("norm", ["group", "batch", "layer"])
def test_loss_is_scale_invariant(norm):
    # With epsilon = 0 in the limit: scaling a kernel by a scales the variance by a^2 = 9 against
    # epsilon 1e-9, far below float32 rounding.
    model = mlp((8, 8), 10, norm=norm, epsilon=1e-9, seed=2)
    x, y = data()
    before = mean_loss(model, x, y)
    for weight in model.trainable_weights:
        weight.assign(3.0 * weight)
        assert mean_loss(model, x, y) == pytest.approx(before, rel=1e-5)


def test_loss_is_not_scale_invariant_without_norm_or_with_a_trained_end():
    x, y = data()
    for options in ({"norm": "none"}, {"affine": True}, {"train_last_layer": True}):
        model = mlp((8, 8), 10, seed=2, **options)
        before = mean_loss(model, x, y)
        for weight in model.trainable_weights:
            weight.assign(3.0 * weight)
        assert abs(mean_loss(model, x, y) / before - 1) > 0.1, options


@pytest.mark.parametrize(
    ("options", "trainable"),
    [
        ({}, {"hidden_0", "hidden_1"}),
        ({"train_last_layer": True}, {"hidden_0", "hidden_1", "logits"}),
        ({"affine": True}, {"hidden_0", "norm_0", "hidden_1", "norm_1"}),
        ({"norm": "batch"}, {"hidden_0", "hidden_1"}),
    ],
    ids=["default", "last layer", "affine", "batch norm"],
)
def test_what_is_trained(options, trainable):
    model = mlp((8, 8), 10, seed=0, **options)
    assert {w.path.split("/")[-2] for w in model.trainable_weights} == trainable


def test_initial_weights_have_the_variances_of_their_names():
    # He: 2 / fan_in; LeCun: 1 / fan_in; mean 0. 512 units: 262,144 and 32,768 and 5,120 weights.
    model = mlp((8, 8), 10, width=8, seed=3)
    for weight, gain in zip(model.get_weights(), (2, 2, 1)):
        fan_in, n = weight.shape[0], weight.size
        variance = gain / fan_in
        # The variance of a sample variance is below 2 sigma^4 / n (truncated at two standard
        # deviations the normal has lighter tails); 4 standard errors.
        assert abs(weight.var() / variance - 1) < 4 * np.sqrt(2 / n)
        assert abs(weight.mean()) < 4 * np.sqrt(variance / n)
        # Truncated at two standard deviations, each of 1 / 0.8796 of the nominal one.
        assert np.abs(weight).max() < 2.0001 * np.sqrt(variance) / 0.87962566


def test_seed_decides_all_weights():
    first, again, other = (mlp((8, 8), 10, seed=s).get_weights() for s in (7, 7, 8))
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        assert not np.any(a == c)  # the last layer too is drawn anew
    hidden = first[:2]
    assert not np.any(hidden[0] == hidden[1])  # layers do not share a seed
    unseeded = [mlp((8, 8), 10).get_weights()[0] for _ in range(2)]
    assert not np.any(unseeded[0] == unseeded[1])


def test_batch_norm_follows_in_short_runs():
    # Momentum 0.9, not Keras' 0.99: one batch moves the moving mean by a tenth of the way from 0.
    model = mlp((8, 8), 10, norm="batch", depth=1, seed=0)
    x, _ = data()
    hidden = x.reshape(50, 64) @ model.get_layer("hidden_0").get_weights()[0]
    model(x, training=True)
    moving_mean = model.get_layer("norm_0").get_weights()[0]
    np.testing.assert_allclose(moving_mean, 0.1 * hidden.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "`depth` must be an integer >= 1. Received: depth=0"),
        ({"width": 1.5}, "`width` must be an integer >= 1. Received: width=1.5"),
        ({"num_classes": 0}, "`num_classes` must be an integer >= 1. Received: num_classes=0"),
        ({"norm": "grup"}, "`norm` must be one of 'group', 'batch', .*Received: norm='grup'"),
    ],
    ids=["depth", "width", "num_classes", "norm"],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        mlp(**{"input_shape": (8, 8), "num_classes": 10, **options})
    if "norm" in options:
        with pytest.raises(ValueError, match=message):
            normalization(options["norm"])


# The oracle itself, which tests of the study rest on.


def test_oracle_gradient_is_that_of_finite_differences():
    rng = np.random.default_rng(4)
    kernels = [rng.normal(size=s) / 6 for s in [(64, 64), (64, 64), (64, 10)]]
    x, y = data(20)
    x = x.astype(np.float64)
    net = DigitsNet()
    gradients = net.gradient(kernels, x, y)
    for layer in (0, 1):
        direction = rng.normal(size=(64, 64))
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = list(kernels)
            moved[layer] = kernels[layer] + sign * step * direction
            ends.append(net.loss_and_accuracy(moved, x, y)[0])
        slope = (ends[0] - ends[1]) / (2 * step)
        # Central differences err by step^2, and by kinks of the ReLU that the step crosses.
        assert np.sum(gradients[layer] * direction) == pytest.approx(slope, rel=1e-4)
        # Scale invariance: no gradient along the kernel itself (but for epsilon = 1e-5).
        along = np.sum(gradients[layer] * kernels[layer])
        assert abs(along) < 1e-3 * np.linalg.norm(gradients[layer]) * np.linalg.norm(kernels[layer])
