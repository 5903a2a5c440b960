"""The convolutional networks: outputs, numbers of weights, initial weights, wrong arguments.

Tests of convolution.py, preresnet.py, residual.py, resnet.py and vgg.py in keras_svag/models.
"""

import keras
import numpy as np
import pytest

from keras_svag.models import MODELS, preresnet, resnet, vgg
from tests.models.network_oracle import NetworkOracle

NORMS = ("batch", "group", "layer", "none")
# The smallest of each: name, function, shape of an input, arguments.
SMALL = {
    "preresnet": (preresnet, (8, 8, 3), {"depth": 8, "width": 0.5}),
    "resnet": (resnet, (8, 8, 3), {"depth": 8, "width": 0.5}),
    "vgg": (vgg, (32, 32, 3), {"depth": 11, "width": 0.125}),
}


def small(name, **options):
    function, shape, arguments = SMALL[name]
    return function(shape, 10, **{"seed": 0, **arguments, **options})


def batch(name, count=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *SMALL[name][1])).astype("float32")


def number_of_weights(weights):
    return sum(int(np.prod(w.shape)) for w in weights)


# Logits.


def assert_close(got, expected):
    # Float32 against float64: some 1e-6 of the largest value after ten layers.
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_preresnet_8_is_that_of_numpy(norm):
    model = preresnet((8, 8, 3), 10, depth=8, norm=norm, epsilon=1e-3, seed=1)
    x = batch("preresnet", 4)
    expected = NetworkOracle(model, norm, 1e-3).preresnet(x.astype(np.float64), n=1)
    assert expected.shape == (4, 10)
    assert_close(model(x, training=True), expected)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5], ids=str)
def test_preresnet_14_with_all_that_can_be_trained_is_that_of_numpy(epsilon):
    model = preresnet(
        (9, 12, 3),  # odd sides too: 9, 5, 3
        7,
        depth=14,
        width=0.5,
        affine=True,
        train_last_layer=True,
        epsilon=epsilon,
        seed=1,
    )
    randomize_vectors(model)
    x = np.random.default_rng(1).normal(size=(4, 9, 12, 3)).astype("float32")
    expected = NetworkOracle(model, "batch", epsilon).preresnet(x.astype(np.float64), n=2)
    assert_close(model(x, training=True), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_resnet_14_is_that_of_numpy(norm):
    options = {"affine": True, "train_last_layer": True}
    model = small("resnet", depth=14, norm=norm, epsilon=1e-3, **options)
    randomize_vectors(model)
    x = batch("resnet", 4)
    expected = NetworkOracle(model, norm, 1e-3).resnet(x.astype(np.float64), n=2)
    assert_close(model(x, training=True), expected)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("depth", "convolutions"), [(11, (1, 1, 2, 2, 2)), (16, (2, 2, 3, 3, 3))], ids=str
)
def test_vgg_is_that_of_numpy(depth, convolutions, norm):
    model = small("vgg", depth=depth, norm=norm, epsilon=1e-3, train_last_layer=True)
    randomize_vectors(model)
    x = batch("vgg", 2)
    expected = NetworkOracle(model, norm, 1e-3).vgg(x.astype(np.float64), convolutions)
    assert_close(model(x, training=True), expected)


def randomize_vectors(model):
    """Scales, offsets and biases are ones and zeros at first, which would hide a wrong one."""
    rng = np.random.default_rng(5)
    for weight in model.trainable_weights:
        if len(weight.shape) == 1:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))


@pytest.mark.parametrize("name", SMALL)
def test_images_without_channels_have_one(name):
    function, shape, arguments = SMALL[name]
    flat, deep = (function(s, 3, seed=0, **arguments) for s in (shape[:2], (*shape[:2], 1)))
    x = batch(name)[..., :1]
    np.testing.assert_array_equal(flat(x[..., 0]), deep(x))
    assert flat.output_shape == (None, 3)


@pytest.mark.parametrize("name", SMALL)
def test_networks_do_not_depend_on_the_data_format_of_keras(name):
    expected = small(name)(batch(name))
    keras.config.set_image_data_format("channels_first")
    try:
        got = small(name)(batch(name))
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_array_equal(got, expected)


# Number of weights, layer by layer. Last layer: 10 classes, a bias if it is trained.


def preresnet_counts(n, w):
    """Kernels, and channels that are normalised, of depth 6n + 2 and width w."""
    a, b, c = 16 * w, 32 * w, 64 * w
    stem = 9 * 3 * a
    stage_0 = a * a + 2 * n * 9 * a * a  # shortcut, 2n convolutions
    stage_1 = a * b + 9 * a * b + (2 * n - 1) * 9 * b * b  # the first one widens
    stage_2 = b * c + 9 * b * c + (2 * n - 1) * 9 * c * c
    # Each stage: shortcut and first of a block see what comes in, the others its own channels.
    channels = (a + 2 * n * a) + (2 * a + (2 * n - 1) * b) + (2 * b + (2 * n - 1) * c) + c
    return stem + stage_0 + stage_1 + stage_2, channels


def resnet_counts(n, w):
    a, b, c = 16 * w, 32 * w, 64 * w
    stem = 9 * 3 * a
    stage_0 = 2 * n * 9 * a * a  # no shortcut convolution
    stage_1 = a * b + 9 * a * b + (2 * n - 1) * 9 * b * b
    stage_2 = b * c + 9 * b * c + (2 * n - 1) * 9 * c * c
    # One after each convolution: stem, 2n in each stage, two shortcuts.
    channels = a + 2 * n * a + (2 * n + 1) * b + (2 * n + 1) * c
    return stem + stage_0 + stage_1 + stage_2, channels


def vgg_counts(convolutions, w):
    sizes = [3]
    for base, number in zip((64, 128, 256, 512, 512), convolutions):
        sizes += [base * w] * number
    return sum(9 * i * o for i, o in zip(sizes, sizes[1:])), sum(sizes[1:])


# For CIFAR: 3 channels in. Kernels and normalised channels by hand: stem and the three stages (each
# residual stage: shortcut, first convolution, the others), or the stages of VGG.
BY_HAND = {
    ("preresnet", 8, 1): (
        432 + (256 + 2 * 2_304) + (512 + 4_608 + 9_216) + (2_048 + 18_432 + 36_864),
        (16 + 2 * 16) + (2 * 16 + 32) + (2 * 32 + 64) + 64,
    ),
    ("preresnet", 14, 1): (
        432 + (256 + 4 * 2_304) + (512 + 4_608 + 3 * 9_216) + (2_048 + 18_432 + 3 * 36_864),
        (16 + 4 * 16) + (2 * 16 + 3 * 32) + (2 * 32 + 3 * 64) + 64,
    ),
    ("preresnet", 32, 1): (
        432 + (256 + 10 * 2_304) + (512 + 4_608 + 9 * 9_216) + (2_048 + 18_432 + 9 * 36_864),
        (16 + 10 * 16) + (2 * 16 + 9 * 32) + (2 * 32 + 9 * 64) + 64,
    ),
    # Four times as wide: 16 times the weights, but for the stem, which sees 3 channels still.
    ("preresnet", 32, 4): (4 * 432 + 16 * (464_048 - 432), 4 * 1_200),
    ("resnet", 32, 1): (
        432 + 10 * 2_304 + (512 + 4_608 + 9 * 9_216) + (2_048 + 18_432 + 9 * 36_864),
        16 + 10 * 16 + 11 * 32 + 11 * 64,
    ),
    ("vgg", 11, 1): (
        1_728 + 73_728 + (294_912 + 589_824) + (1_179_648 + 2_359_296) + 2 * 2_359_296,
        64 + 128 + 2 * 256 + 4 * 512,
    ),
    ("vgg", 16, 1): (
        (1_728 + 36_864)
        + (73_728 + 147_456)
        + (294_912 + 2 * 589_824)
        + (1_179_648 + 2 * 2_359_296)
        + 3 * 2_359_296,
        2 * 64 + 2 * 128 + 3 * 256 + 6 * 512,
    ),
    ("vgg", 19, 1): (
        (1_728 + 36_864)
        + (73_728 + 147_456)
        + (294_912 + 3 * 589_824)
        + (1_179_648 + 3 * 2_359_296)
        + 4 * 2_359_296,
        2 * 64 + 2 * 128 + 4 * 256 + 8 * 512,
    ),
}
TRAINED_WEIGHTS = {
    ("preresnet", 32, 1): 464_048,
    ("preresnet", 32, 4): 7_419_584,
    ("resnet", 32, 1): 463_792,
    ("vgg", 16, 1): 14_710_464,
    ("vgg", 19, 1): 20_018_880,
}
CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def counts(name, depth, width):
    if name == "vgg":
        return vgg_counts(CONVOLUTIONS[depth], width)
    return {"preresnet": preresnet_counts, "resnet": resnet_counts}[name]((depth - 2) // 6, width)


@pytest.mark.parametrize(("key", "expected"), BY_HAND.items(), ids=str)
def test_number_of_weights_of_the_standard_networks(key, expected):
    name, depth, width = key
    assert counts(*key) == expected
    assert TRAINED_WEIGHTS.get(key, expected[0]) == expected[0]
    kernels, channels = expected
    features = {"preresnet": 64, "resnet": 64, "vgg": 512}[name] * width
    with keras.StatelessScope(initialize_variables=False):  # shapes alone: no need to draw 20 M
        model = MODELS[name]((32, 32, 3), 10, depth=depth, width=width)
    assert number_of_weights(model.trainable_weights) == kernels
    # Moving mean and variance of each normalised channel, and the last layer without bias.
    assert number_of_weights(model.non_trainable_weights) == 2 * channels + 10 * features
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("trained", [False, True], ids=["fixed", "trained"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("name", "depth", "width"),
    [("preresnet", 14, 0.5), ("resnet", 8, 1.5), ("vgg", 11, 0.125), ("vgg", 13, 0.125)],
)
def test_number_of_weights(name, depth, width, norm, trained):
    kernels, channels = counts(name, depth, width)
    last = 10 * {"vgg": 512}.get(name, 64) * width
    options = {"affine": trained, "train_last_layer": trained}
    with keras.StatelessScope(initialize_variables=False):
        model = small(name, depth=depth, width=width, norm=norm, **options)
    if trained:
        # Scales and offsets; the last layer with its bias.
        kernels += 2 * channels * (norm != "none") + last + 10
    assert number_of_weights(model.trainable_weights) == kernels
    assert number_of_weights(model.non_trainable_weights) == (
        2 * channels * (norm == "batch") + last * (not trained)
    )


# Initial weights.


def kernels_of(model):
    return {
        layer.name: layer.get_weights()[0]
        for layer in model.layers
        if layer.name == "logits" or isinstance(layer, keras.layers.Conv2D)
    }


@pytest.mark.parametrize("name", SMALL)
def test_initial_kernels_have_the_variance_of_the_authors(name):
    largest = 0.0
    for layer, kernel in kernels_of(small(name, seed=3)).items():
        size = kernel.size // np.prod(kernel.shape[-2:])
        fan = size * kernel.shape[-1 if name == "resnet" else -2]
        variance, kurtosis = 2 / fan, 3.0
        if layer == "logits" and name == "resnet":
            # Uniform within 1 / sqrt(fan_in): PyTorch's default.
            bound = 1 / np.sqrt(kernel.shape[0])
            variance, kurtosis = bound**2 / 3, 1.8
            assert bound * 0.95 < np.abs(kernel).max() <= bound
        # Five standard errors of a sample variance and a mean, over ten kernels or so.
        error = np.sqrt((kurtosis - 1) / kernel.size)
        assert abs(kernel.var() / variance - 1) < 5 * error, layer
        assert abs(kernel.mean()) < 5 * np.sqrt(variance / kernel.size), layer
        largest = max(largest, np.abs(kernel).max() / np.sqrt(variance))
    assert largest > 3  # Keras' own HeNormal is cut off at 2.3 standard deviations


def test_bias_of_a_trained_last_layer():
    for name in ("preresnet", "vgg"):
        bias = small(name, train_last_layer=True).get_layer("logits").get_weights()[1]
        np.testing.assert_array_equal(bias, np.zeros(10))
    bias = small("resnet", train_last_layer=True).get_layer("logits").get_weights()[1]
    assert 0.05 < np.abs(bias).max() <= 1 / np.sqrt(32)
    assert len(np.unique(bias)) == 10


@pytest.mark.parametrize("name", SMALL)
def test_seed_decides_all_weights(name):
    options = {"affine": True, "train_last_layer": True}
    first, again, other = (small(name, seed=s, **options) for s in (7, 7, 8))
    for a, b in zip(first.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    first, other = kernels_of(first), kernels_of(other)
    assert len(first) >= 9
    for layer in first:
        assert not np.any(first[layer] == other[layer])
    # No two layers share a seed.
    assert len({float(kernel.flat[0]) for kernel in first.values()}) == len(first)
    unseeded = [kernels_of(small(name, seed=None))["logits"] for _ in range(2)]
    assert not np.any(unseeded[0] == unseeded[1])


def test_seed_of_a_layer_does_not_depend_on_normalisation_or_last_layer():
    plain, other = (
        kernels_of(small("preresnet", **options))
        for options in ({}, {"norm": "none", "train_last_layer": True})
    )
    for layer in plain:
        np.testing.assert_array_equal(plain[layer], other[layer])


# Training.


@pytest.mark.parametrize("name", SMALL)
def test_gradients_without_epsilon_are_finite(name):
    for norm in ("batch", "group"):
        model = small(name, norm=norm, epsilon=0.0)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            run_eagerly=True,
        )
        before = kernels_of(model)
        assert np.isfinite(model.train_on_batch(batch(name), np.arange(8)))
        for layer, kernel in kernels_of(model).items():
            assert np.isfinite(kernel).all()
            assert np.array_equal(kernel, before[layer]) == (layer == "logits")


def test_an_image_of_zeros_needs_epsilon_under_group_norm():
    x = np.zeros((2, 8, 8, 3), "float32")
    assert np.isnan(small("preresnet", norm="group", epsilon=0.0)(x)).all()
    np.testing.assert_array_equal(small("preresnet", norm="group")(x), np.zeros((2, 10)))


# Wrong arguments.


RESIDUAL_DEPTH = "`depth` must be 6n \\+ 2 .*Received: depth="
WRONG = {
    "preresnet depth": ("preresnet", {"depth": 10}, RESIDUAL_DEPTH + "10"),
    "preresnet depth 2": ("preresnet", {"depth": 2}, RESIDUAL_DEPTH + "2"),
    "preresnet depth float": ("preresnet", {"depth": 8.0}, "`depth` must be an int.*depth=8.0"),
    "resnet depth": ("resnet", {"depth": 18}, RESIDUAL_DEPTH + "18"),
    "vgg depth": ("vgg", {"depth": 12}, "`depth` must be one of 11, 13, 16, 19. .*depth=12"),
    "norm": ("preresnet", {"norm": "grup"}, "`norm` must be one of .*Received: norm='grup'"),
    "width 0": ("resnet", {"width": 0}, "`width` must be a number > 0. Received: width=0"),
    "width string": ("vgg", {"width": "4"}, "`width` must be a number > 0. Received: width='4'"),
    "broken channels": (
        "resnet",
        {"width": 0.3},
        "`width` must be a multiple of 0.0625 .*width=0.3",
    ),
    "groups": (
        "preresnet",
        {"width": 0.25, "norm": "group"},
        "`width` must be a multiple of 0.5 .*width=0.25",
    ),
    "vgg groups": ("vgg", {"width": 0.0625, "norm": "group"}, "multiple of 0.125"),
    "num_classes": ("vgg", {"num_classes": 0}, "`num_classes` must be an integer >= 1. Received"),
    "epsilon": ("resnet", {"epsilon": -1.0}, "`epsilon` must be a number >= 0. Received"),
    "flat input": ("preresnet", {"input_shape": (64,)}, "`input_shape` must .*=\\(64,\\)"),
    "small input": ("vgg", {"input_shape": (8, 8, 3)}, "width >= 32. Received: input_shape=\\(8"),
}


@pytest.mark.parametrize(("name", "options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments(name, options, message):
    function, shape, arguments = SMALL[name]
    with pytest.raises(ValueError, match=message):
        function(**{"input_shape": shape, "num_classes": 10, **arguments, **options})


def test_channels_need_not_be_divided_without_groups():
    assert small("preresnet", width=0.25).get_layer("stem").filters == 4


def test_networks_are_registered():
    assert {name: MODELS[name] for name in SMALL} == {
        "preresnet": preresnet,
        "resnet": resnet,
        "vgg": vgg,
    }
