"""Tests of keras_svag/optimizers/registry.py: SVAG for another optimizer is one class."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import scale_optimizer
from keras_svag.config import build_study
from keras_svag.optimizers import (
    SVAG,
    AmplificationMixin,
    SVAGAdam,
    SVAGAdamW,
    SVAGRMSprop,
    get_svag_class,
    scaling,
    svag_class_for,
    svag_classes,
    svag_version,
)
from keras_svag.theory.scaling_rules import ScalingRule
from tests.studies.helpers import study_config


class MyLion(keras.optimizers.Lion):
    """Lion under another name: the rule of Keras' own stays that of other tests."""


@keras.saving.register_keras_serializable(package="registry_test")
class SVAGLion(AmplificationMixin, MyLion):
    """Lion by a rule that nobody derived: these tests are about what follows from a rule."""

    scaling_rule = ScalingRule("lion", {"learning_rate": 1.0, "weight_decay": -0.5}, ("beta_2",))

    def __init__(self, learning_rate=0.001, ell=1.0, beta_1=0.9, beta_2=0.99, **kwargs):
        super().__init__(learning_rate, beta_1=beta_1, beta_2=beta_2, **kwargs)
        self._init_amplification(ell)


def lion(**options):
    return MyLion(0.125, beta_2=0.75, weight_decay=0.25, **options)


def steps(optimizer, gradients):
    weight = keras.Variable(np.ones(4, "float32"))
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    return weight.numpy()


def test_a_class_is_found_by_being_defined():
    assert svag_class_for(MyLion) is SVAGLion
    assert get_svag_class("SVAGLion") is SVAGLion
    assert {"SVAG", "SVAGAdam", "SVAGAdamW", "SVAGRMSprop", "SVAGLion"} <= set(svag_classes())
    version = svag_version(lion(name="mine"))
    assert type(version) is SVAGLion
    assert version.get_config() == {**lion(name="mine").get_config(), "ell": 1.0}
    with pytest.raises(ValueError, match="`name` must be one of 'SVAG', .*Received: name='SVAGX'"):
        get_svag_class("SVAGX")


@pytest.mark.parametrize("optimizer", [lion(), SVAGLion(0.125, beta_2=0.75, weight_decay=0.25)])
def test_its_rule_scales_the_keras_class_too(optimizer):
    scaled = scale_optimizer(optimizer, 4 / 3)
    assert type(scaled) is type(optimizer)
    config = scaled.get_config()
    assert config["learning_rate"] == pytest.approx(0.125 * 4 / 3, rel=2e-7)
    assert config["weight_decay"] == pytest.approx(0.25 * (4 / 3) ** -0.5, rel=1e-12)
    assert config["beta_2"] == pytest.approx(2 / 3, rel=1e-12) and config["beta_1"] == 0.9
    assert scaling.find_rule(optimizer).name == scaling.find_rule(optimizer, "lion").name == "lion"
    # 1 - beta_2 = 1/4 allows no kappa of 4.
    assert scaling.max_kappa(optimizer) == 4.0
    for kappa, rule in ((4, "auto"), (2, "linear"), (2, None)):
        with pytest.raises(ValueError, match="Received: "):
            scale_optimizer(optimizer, kappa, rule)


def test_ell_one_is_keras_bit_for_bit():
    gradients = np.random.default_rng(6).normal(size=(40, 4)).astype("float32")
    expected = steps(lion(), gradients[::2])
    np.testing.assert_array_equal(steps(svag_version(lion()), gradients), expected)
    assert (expected != 1).all()


def test_amplified_hyperparameters_follow_the_rule():
    optimizer = svag_version(lion())
    optimizer.ell = 4
    expected = {"learning_rate": 0.125 / 4, "weight_decay": 0.25 * 2, "beta_2": 1 - 0.25 / 4}
    assert optimizer.amplified_hyperparameters == expected  # all exact in binary
    # Its step is that of Keras with these hyperparameters on the amplified gradients.
    gradients = np.random.default_rng(7).normal(size=(40, 4)).astype("float32")
    r1, r2 = keras_svag.svag_coefficients(4)
    combined = (r1 * gradients[::2] + r2 * gradients[1::2]).astype("float32")
    plain = steps(MyLion(**expected), combined)
    np.testing.assert_allclose(steps(optimizer, gradients), plain, rtol=0, atol=20 * 4 * 6e-8)


def test_decay_rates_may_scale_by_a_power():
    class Averaging(keras.optimizers.Adam):
        pass

    class SVAGAveraging(AmplificationMixin, Averaging):
        scaling_rule = ScalingRule(
            "mine", {"learning_rate": 1.0, "weight_decay": 0.0}, {"beta_1": 0.5, "beta_2": 1.0}
        )

        def __init__(self, learning_rate=0.01, ell=1.0, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self._init_amplification(ell)

    rates = SVAGAveraging(ell=16, beta_1=0.5, beta_2=0.75).amplified_hyperparameters
    assert (rates["beta_1"], rates["beta_2"]) == (1 - 0.5 / 4, 1 - 0.25 / 16)
    scaled = scale_optimizer(Averaging(beta_1=0.875, beta_2=0.984375), 16)
    assert (scaled.beta_1, scaled.beta_2) == (0.5, 0.75)


def test_serialization_round_trip(tmp_path):
    inputs = keras.Input((3,))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    model.compile(SVAGLion(0.125, ell=3), "mse")
    rng = np.random.default_rng(0)
    data = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    model.fit(*data, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is SVAGLion
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for m in (model, loaded):
        m.fit(*data, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


def test_studies_know_it_by_name():
    config = study_config(optimizer={"name": "SVAGLion", "beta_2": 0.75})
    study, _ = build_study(config, "sde_validity")
    optimizer = study.recipe.optimizer_at(2 * config["base_batch_size"])
    assert type(optimizer) is SVAGLion and optimizer.beta_2 == 0.5


@pytest.mark.parametrize(
    "optimizer, cls",
    [
        (keras.optimizers.SGD(0.5, momentum=0.25, nesterov=True, weight_decay=0.125), SVAG),
        (keras.optimizers.Adam(0.5, beta_1=0.75, amsgrad=True), SVAGAdam),
        (keras.optimizers.AdamW(0.5, weight_decay=0.125), SVAGAdamW),
        (keras.optimizers.RMSprop(0.5, rho=0.75, centered=True), SVAGRMSprop),
        (SVAG(0.5, ell=4, momentum=0.25), SVAG),
    ],
)
def test_svag_version_keeps_the_hyperparameters(optimizer, cls):
    version = svag_version(optimizer)
    assert type(version) is cls and version is not optimizer
    assert version.get_config() == {**optimizer.get_config(), "ell": 1.0}


def test_svag_version_is_for_known_optimizers():
    class Mine(keras.optimizers.SGD):
        pass

    for optimizer in (Mine(0.1), keras.optimizers.Ftrl(0.1)):
        with pytest.raises(ValueError, match="`optimizer` must be one of SGD, .*Received:"):
            svag_version(optimizer)


@pytest.mark.parametrize("optimizer", ["adamw", keras.optimizers.SGD, None], ids=str)
def test_svag_version_takes_instances_only(optimizer):
    # A name has the learning rate of Keras, which is nobody's choice.
    with pytest.raises(ValueError, match=r"Received: optimizer=.*keras.optimizers.AdamW\(1e-3\)"):
        svag_version(optimizer)


def test_schedules_need_not_be_serializable():
    class Halving(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.5 ** (keras.ops.cast(step, "float32") + 1)

    for schedule in (Halving(), lambda: 0.5):
        original = keras.optimizers.SGD(schedule, nesterov=True)
        version = svag_version(original)
        assert float(version.learning_rate) == float(original.learning_rate) == 0.5
        assert version.nesterov
    scaled = scale_optimizer(keras.optimizers.SGD(Halving()), 2)
    assert float(scaled.learning_rate) == 1.0
    ones = np.ones((4, 4), "float32")
    # Two steps, one a pair: 1/2 and 1/4.
    np.testing.assert_array_equal(steps(svag_version(keras.optimizers.SGD(Halving())), ones), 0.25)


def test_subclasses_and_alternatives_do_not_take_the_place():
    class MySVAG(SVAG):
        pass

    class OtherSVAG(AmplificationMixin, keras.optimizers.SGD):
        scaling_rule = ScalingRule("other", {"learning_rate": 0.0, "weight_decay": 0.0})

        def __init__(self, learning_rate=0.01, ell=1.0, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self._init_amplification(ell)

    assert type(svag_version(keras.optimizers.SGD(0.1))) is SVAG
    assert scaling.find_rule(keras.optimizers.SGD(0.1)).name == "linear"
    assert type(svag_version(MySVAG(0.1))) is MySVAG
    assert scaling.find_rule(OtherSVAG(0.1)).name == "other"


def test_a_class_that_is_defined_again_replaces_itself():
    class MyOptimizer(keras.optimizers.Adamax):
        pass

    def define(power):
        class SVAGMyOptimizer(AmplificationMixin, MyOptimizer):
            scaling_rule = ScalingRule("mine", {"learning_rate": power, "weight_decay": 0.0})

            def __init__(self, learning_rate=0.01, ell=1.0, **kwargs):
                super().__init__(learning_rate, **kwargs)
                self._init_amplification(ell)

        return SVAGMyOptimizer

    for power in (0.0, 2.0):
        cls = define(power)
        version = svag_version(MyOptimizer(1.0))
        assert type(version) is cls
        version.ell = 2.0
        assert version.amplified_hyperparameters["learning_rate"] == 2.0**-power


def test_classes_without_a_rule_are_not_known():
    class WithoutRule(AmplificationMixin, keras.optimizers.Nadam):
        pass

    assert "WithoutRule" not in svag_classes() and svag_class_for(keras.optimizers.Nadam) is None
    with pytest.raises(ValueError, match="`scaling_rule` must be .*Received: scaling_rule=0.5"):

        class WrongRule(WithoutRule):
            scaling_rule = 0.5

    with pytest.raises(ValueError, match="`powers` must have weight_decay. Received"):
        ScalingRule("mine", {"learning_rate": 1.0})
