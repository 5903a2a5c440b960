"""Tests of keras_svag/models/scale_invariance.py, and of which networks are scale invariant."""

import keras
import numpy as np
import pytest

from keras_svag import from_keras
from keras_svag.models import MODELS, is_scale_invariant
from keras_svag.models.normalization import normalization

SMALL = {
    "mlp": ((8, 8), {}),
    "preresnet": ((8, 8, 3), {"depth": 8, "width": 0.5}),
    "resnet": ((8, 8, 3), {"depth": 8, "width": 0.5}),
    "vgg": ((32, 32, 3), {"depth": 11, "width": 0.125}),
}
NORMALIZED = ("batch", "group", "layer")


def small(name, **options):
    shape, arguments = SMALL[name]
    return MODELS[name](shape, 10, seed=0, **arguments, **options)


def batch(name):
    return np.random.default_rng(1).normal(size=(16, *SMALL[name][0])).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=True)).astype(np.float64)


# The networks.


@pytest.mark.parametrize("norm", NORMALIZED)
@pytest.mark.parametrize("name", SMALL)
def test_default_networks_are_scale_invariant(name, norm):
    assert is_scale_invariant(small(name, norm=norm), batch(name))


@pytest.mark.parametrize(
    "options",
    [{"affine": True}, {"norm": "none"}, {"train_last_layer": True}],
    ids=["affine", "none", "last layer"],
)
@pytest.mark.parametrize("name", SMALL)
def test_networks_that_train_a_scale_are_not(name, options):
    assert not is_scale_invariant(small(name, **options), batch(name))


def test_the_resnet_of_the_authors_is_not():
    # Scale and offset and a trained last layer; each alone would do, see above.
    model = small("resnet", affine=True, train_last_layer=True)
    assert not is_scale_invariant(model, batch("resnet"))


@pytest.mark.parametrize("name", SMALL)
def test_scaling_one_layer_matters_only_where_shortcuts_are_added_unnormalised(name):
    model, x = small(name, norm="batch", epsilon=0.0), batch(name)
    before, scores = outputs(model, x), []
    for weight in model.trainable_weights:
        value = keras.ops.convert_to_numpy(weight)
        weight.assign(8 * value)
        scores.append(np.linalg.norm(outputs(model, x) - before) / np.linalg.norm(before))
        weight.assign(value)
    if name == "preresnet":
        # All kernels that end in a sum; not the stem and the first of each block.
        assert sum(score > 0.01 for score in scores) == 6
        assert sum(score < 1e-5 for score in scores) == 4
    else:
        assert max(scores) < 1e-5


def test_without_normalisation_vgg_is_homogeneous_in_its_convolutions():
    model, x = small("vgg", norm="none"), batch("vgg")
    before = outputs(model, x)
    for weight in model.trainable_weights:
        weight.assign(2 * weight)
    # Powers of two: no rounding. VGG-11 has 8 convolutions.
    np.testing.assert_array_equal(outputs(model, x), 2.0**8 * before)


# The test itself.


def line_model(epsilon, weight=1.0):
    """One trained weight, then layer norm of four numbers."""
    inputs = keras.Input((4, 1))
    x = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, normalization("layer", epsilon=epsilon)(x))
    model.trainable_weights[0].assign([[weight]])
    return model


LINE = np.array([[-1, 1, -1, 1], [1, 1, -1, -1]], "float32")[..., None]  # variance 1 in each


@pytest.mark.parametrize("factor", [10.0, 3.0])
def test_score_with_epsilon_is_that_of_the_formula(factor):
    # Outputs are w x / sqrt(w^2 + e): their ratio is sqrt((w^2 + e) / (w^2 + e / factor^2)).
    e, w = 0.21, 0.5
    score = np.sqrt((w**2 + e) / (w**2 + e / factor**2)) - 1
    model = line_model(e, w)
    assert is_scale_invariant(model, LINE, factor, tolerance=score * 1.0001)
    assert not is_scale_invariant(model, LINE, factor, tolerance=score * 0.9999)


def test_score_tends_to_a_limit_as_the_factor_grows():
    limit = np.sqrt(1.21) - 1  # against the network without epsilon
    for factor in (1e4, 1e8):
        assert is_scale_invariant(line_model(0.21), LINE, factor, tolerance=limit * 1.0001)
        assert not is_scale_invariant(line_model(0.21), LINE, factor, tolerance=limit * 0.9999)


def test_answer_with_epsilon_depends_on_the_size_of_the_weights():
    for epsilon, shrunk in ((1e-5, False), (0.0, True)):
        model, x = small("preresnet", epsilon=epsilon), batch("preresnet")
        assert is_scale_invariant(model, x)
        for weight in model.trainable_weights:
            weight.assign(1e-2 * weight)
        assert is_scale_invariant(model, x) == shrunk


def test_overflow_is_a_no():
    assert not is_scale_invariant(small("preresnet", norm="none"), batch("preresnet"), 1e30)


def with_random_state():
    inputs = keras.Input((8,))
    x = keras.layers.Dense(16, use_bias=False)(inputs)
    x = keras.layers.Dropout(0.5, seed=0)(x)
    x = normalization("batch")(x)
    x = keras.layers.Dropout(0.5, seed=1)(x)
    return keras.Model(inputs, {"a": x, "b": keras.layers.ReLU()(x)})


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "from_keras"])
def test_nothing_about_the_model_changes(wrap):
    model = with_random_state()
    if wrap:
        model = from_keras(model)
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    model(x, training=True)  # moving averages and random states are no longer the initial ones
    before = [keras.ops.convert_to_numpy(v).copy() for v in model.variables]
    identities = [id(v) for v in model.variables]
    assert len(before) == 5  # one weight, the batch norm's two, the states of the two dropouts
    # Dropout has the same masks in both passes, else the answer were no.
    assert is_scale_invariant(model, x)
    assert is_scale_invariant(model, x)
    assert identities == [id(v) for v in model.variables]
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


def test_several_outputs_are_all_compared():
    inputs = keras.Input((8,))
    x = keras.layers.Dense(8, use_bias=False)(inputs)
    x_test = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    normal = normalization("batch")(x)
    assert is_scale_invariant(keras.Model(inputs, [normal, normal]), x_test)
    assert not is_scale_invariant(keras.Model(inputs, [normal, x]), x_test)


def test_a_model_that_trains_nothing_is_invariant():
    model = small("mlp", norm="none")
    model.trainable = False
    assert is_scale_invariant(model, batch("mlp"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1.0}, "`factor` must be a number > 1. Received: factor=1.0"),
        ({"factor": "10"}, "`factor` must be a number > 1. Received: factor='10'"),
        ({"tolerance": 0.0}, "`tolerance` must be a number > 0. Received: tolerance=0.0"),
    ],
    ids=["factor", "factor string", "tolerance"],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        is_scale_invariant(line_model(0.0), LINE, **options)


def test_a_model_without_weights_yet_is_refused():
    model = keras.Sequential([keras.layers.Dense(3)], name="later")
    with pytest.raises(ValueError, match="`model` must be built.*Received: model=later without"):
        is_scale_invariant(model, LINE)
