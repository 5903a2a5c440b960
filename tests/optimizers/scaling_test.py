"""Tests of keras_svag/optimizers/scaling.py: the table, its limits, SVAG as the rule at 1/l."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_svag
from keras_svag import scale_optimizer
from keras_svag.optimizers.replaced import DecayRate
from keras_svag.optimizers.scaling import find_rule, max_kappa
from keras_svag.theory.scaling_rules import ScalingRule

OPTIMIZERS = {
    "sgd": (keras.optimizers.SGD, keras_svag.SVAG, {}),
    "momentum": (keras.optimizers.SGD, keras_svag.SVAG, {"momentum": 0.9}),
    "rmsprop": (keras.optimizers.RMSprop, keras_svag.SVAGRMSprop, {"rho": 0.95}),
    "rmsprop_momentum": (
        keras.optimizers.RMSprop,
        keras_svag.SVAGRMSprop,
        {"rho": 0.95, "momentum": 0.8},
    ),
    "adam": (keras.optimizers.Adam, keras_svag.SVAGAdam, {"beta_2": 0.99}),
    "adamw": (keras.optimizers.AdamW, keras_svag.SVAGAdamW, {"beta_2": 0.99}),
}
NAMES = ("learning_rate", "weight_decay", "momentum", "rho", "beta_1", "beta_2", "epsilon")

# What each hyperparameter becomes at batch size kappa B, written out row by row.
TABLE = {
    "sgd": lambda k: {"learning_rate": 0.1 * k, "weight_decay": 0.01},
    "momentum": lambda k: {
        "learning_rate": 0.1 * k**2,
        "momentum": 1 - 0.1 * k,
        "weight_decay": 0.01 / k,
    },
    "rmsprop": lambda k: {
        "learning_rate": 0.1 * k**0.5,
        "rho": 1 - 0.05 * k,
        "epsilon": 1e-6 / k,
        "weight_decay": 0.01 * k**0.5,
    },
    "rmsprop_momentum": lambda k: {
        "learning_rate": 0.1 * k**1.5,
        "rho": 1 - 0.05 * k,
        "momentum": 1 - 0.2 * k,
        "epsilon": 1e-6 / k,
        "weight_decay": 0.01 / k**0.5,
    },
    "adam": lambda k: {
        "learning_rate": 0.1 * k**0.5,
        "beta_1": 1 - 0.1 * k,
        "beta_2": 1 - 0.01 * k,
        "epsilon": 1e-6 / k**0.5,
        "weight_decay": 0.01 * k**0.5,
    },
}
TABLE["adamw"] = TABLE["adam"]


def make(name, amplified=False, **more):
    """An optimizer of the table with learning rate 0.1, decay 0.01 and epsilon 1e-6."""
    keras_class, svag_class, options = OPTIMIZERS[name]
    options = {**options, "weight_decay": 0.01, **more}
    if "sgd" not in name and name != "momentum":
        options.setdefault("epsilon", 1e-6)
    return (svag_class if amplified else keras_class)(0.1, **options)


@pytest.mark.parametrize("kappa", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_table(name, kappa):
    optimizer = make(name)
    scaled = scale_optimizer(optimizer, kappa)
    assert type(scaled) is type(optimizer)
    expected = TABLE[name](kappa)
    config = scaled.get_config()
    for key in NAMES:
        if key in config:
            # Learning rates pass through float32 variables.
            wanted = expected.get(key, optimizer.get_config()[key])
            np.testing.assert_allclose(config[key], wanted, rtol=2e-7, err_msg=key)
    np.testing.assert_allclose(float(optimizer.learning_rate), 0.1, rtol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    kappa=st.floats(0.5, 4.0),
    rate=st.floats(1e-5, 10.0),
    decay=st.floats(1e-6, 1.0),
)
def test_amplification_undoes_scaling(name, kappa, rate, decay):
    # SVAG at ell = kappa is the rule at 1/kappa: after scaling by kappa it runs with the original.
    keras_class, svag_class, options = OPTIMIZERS[name]
    original = svag_class(rate, weight_decay=decay, **options)
    scaled = scale_optimizer(original, kappa)
    scaled.ell = kappa
    actual = scaled.amplified_hyperparameters
    assert {"learning_rate", "weight_decay"} <= set(actual)
    for key, value in actual.items():
        wanted = rate if key == "learning_rate" else original.get_config()[key]
        # float32 twice; a decay rate loses digits of 1 - b, not of b.
        np.testing.assert_allclose(value, wanted, rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("ell", [2.0, 7.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_svag_is_keras_on_amplified_gradients_with_the_scaled_hyperparameters(name, ell):
    # Keras' own class, given the table at kappa = 1/l and r1 g1 + r2 g2, is the oracle.
    rng = np.random.default_rng(5)
    gradients = rng.normal(size=(40, 4)).astype("float32")
    gradients[:, 2] *= 1e-6  # where epsilon matters
    ours, theirs = (keras.Variable(np.ones(4, "float32")) for _ in range(2))
    svag = make(name, amplified=True, ell=ell)
    for gradient in gradients:
        svag.apply([keras.ops.convert_to_tensor(gradient)], [ours])
    plain = scale_optimizer(make(name), 1 / ell)
    r1, r2 = keras_svag.svag_coefficients(ell)
    for g1, g2 in zip(gradients[::2], gradients[1::2]):
        plain.apply([keras.ops.convert_to_tensor(r1 * g1 + r2 * g2)], [theirs])
    moved = np.abs(theirs.numpy() - 1)
    assert moved.max() > 1e-3
    # 20 steps of float32 each with a few roundings of numbers of order 1.
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=20 * 4 * 6e-8)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("momentum", {}),
        ("momentum", {"nesterov": True}),
        ("rmsprop", {}),
        ("rmsprop", {"centered": True}),
        ("rmsprop_momentum", {"centered": True}),
        ("adam", {}),
        ("adam", {"amsgrad": True}),
        ("adam", {"beta_1": 0.0}),
        ("adam", {"clipnorm": 0.5}),
        ("adamw", {"use_ema": True, "ema_momentum": 0.9}),
    ],
    ids=str,
)
@pytest.mark.parametrize("decay", [None, 0.1], ids=["no_decay", "decay"])
def test_ell_one_is_the_keras_class_bit_for_bit(name, more, decay):
    if name == "adamw" and decay is None:
        decay = 0.0
    rng = np.random.default_rng(6)
    gradients = rng.normal(size=(40, 4)).astype("float32")
    ours, theirs = (keras.Variable(np.ones(4, "float32")) for _ in range(2))
    keras_class, svag_class, options = OPTIMIZERS[name]
    svag = svag_class(0.1, weight_decay=decay, **{**options, **more})
    plain = keras_class(0.1, weight_decay=decay, **{**options, **more})
    for gradient in gradients:
        svag.apply([keras.ops.convert_to_tensor(gradient)], [ours])
    for gradient in gradients[::2]:
        plain.apply([keras.ops.convert_to_tensor(gradient)], [theirs])
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    if more.get("use_ema"):
        for a, b in zip(
            svag._model_variables_moving_average, plain._model_variables_moving_average
        ):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_goyal_leaves_momentum_alone():
    scaled = scale_optimizer(make("momentum"), 8, rule="linear")
    np.testing.assert_allclose(float(scaled.learning_rate), 0.8, rtol=1e-6)
    assert scaled.momentum == 0.9
    assert scaled.weight_decay == 0.01


def test_linear_rule_of_adam_scales_the_rate_alone():
    optimizer = make("adam")
    base = optimizer.get_config()
    # Beyond 1 / (1 - beta_1), where the square-root rule ends.
    scaled = scale_optimizer(optimizer, 16, rule="linear").get_config()
    assert scaled == {**base, "learning_rate": pytest.approx(16 * base["learning_rate"], rel=1e-6)}


@pytest.mark.parametrize(
    ("name", "limit"), [("momentum", 10), ("adam", 10), ("rmsprop", 20), ("rmsprop_momentum", 5)]
)
def test_largest_kappa_is_in_the_message(name, limit):
    np.testing.assert_allclose(max_kappa(make(name)), limit, rtol=1e-9)
    scale_optimizer(make(name), 0.999 * limit)
    with pytest.raises(ValueError, match=rf"`kappa` must be below {limit} .*Received: kappa="):
        scale_optimizer(make(name), limit * 1.001)
    with pytest.raises(ValueError, match="`ell` must be above 0.6 for .*Received: ell=0.5"):
        # 1 - b = 0.6 would become 1.2.
        make(name, amplified=True, ell=0.5, **{find_rule(make(name)).decay_rates[0]: 0.4})


def test_rules_that_do_not_fit():
    with pytest.raises(
        ValueError, match="`rule` for SGD must be 'auto' or .*Received: rule='cubic'"
    ):
        scale_optimizer(make("sgd"), 2, rule="cubic")
    with pytest.raises(ValueError, match="SGD with momentum must be 'auto' or .*'heavy_ball'"):
        scale_optimizer(make("momentum"), 2, rule="cubic")
    with pytest.raises(ValueError, match="`rule` for RMSprop must be 'auto' or one of 'square_"):
        scale_optimizer(make("rmsprop"), 2, rule="linear")
    with pytest.raises(
        ValueError, match="`optimizer` must be an instance of SGD, .*Received: optimizer="
    ) as error:
        scale_optimizer(keras.optimizers.Optimizer(0.1), 2)
    assert "Lion" in str(error.value) and "Adamax" not in str(error.value)
    with pytest.raises(ValueError, match="`kappa` must be a finite number > 0. Received: kappa=0"):
        scale_optimizer(make("sgd"), 0)
    with pytest.raises(ValueError, match="`optimizer.learning_rate` must be a number.*Received"):
        scale_optimizer(keras.optimizers.SGD(lambda: 0.1), 2)


def test_limit_of_a_rule_is_that_of_its_own_decay_rates():
    class TwoRules(keras.optimizers.Adam):
        powers = {"learning_rate": 1.0, "weight_decay": 0.0}
        rules = (ScalingRule("one", powers, ("beta_1",)), ScalingRule("two", powers, ("beta_2",)))
        scaling_rule = staticmethod(lambda _: TwoRules.rules)

    assert scale_optimizer(TwoRules(beta_2=0.99), 50, "two").beta_2 == pytest.approx(0.5)
    for rule, limit in (("one", "10 for beta_1=0.9"), ("two", "100 for beta_2=0.99")):
        with pytest.raises(ValueError, match=f"`kappa` must be below {limit}: "):
            scale_optimizer(TwoRules(beta_2=0.99), 200, rule)


def test_number_minus_a_decay_rate():
    # Keras says 1 - b; the digits of 1 - b are there, whatever the number.
    rate = DecayRate(1.0, 1e-9)
    assert (1 - rate, 3 - rate) == (1e-9, 2 + 1e-9)


@pytest.mark.requires_tensorflow
def test_tensor_of_a_decay_rate_has_the_dtype_that_is_asked_for():
    import tensorflow as tf

    rate = DecayRate(tf.constant(0.75), tf.constant(0.25))
    for dtype in ("float32", "float64", "bfloat16"):
        tensor = tf.convert_to_tensor(rate, dtype)
        assert tensor.dtype == dtype and float(tensor) == 0.75
    assert tf.convert_to_tensor(rate).dtype == "float32"


@pytest.mark.parametrize("optimizer", ["adam", keras.optimizers.Adam, None], ids=str)
def test_p7_an_optimizer_that_is_none_is_refused(optimizer):
    with pytest.raises(ValueError, match="`optimizer` must be a Keras optimizer instance. Rec"):
        scale_optimizer(optimizer, 2)


schedules = keras.optimizers.schedules
SCHEDULES = {
    "cosine": schedules.CosineDecay(0.01, 90, 0.1, warmup_target=0.1, warmup_steps=20),
    "restarts": schedules.CosineDecayRestarts(0.1, 30),
    "exponential": schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True),
    "time": schedules.InverseTimeDecay(0.1, 10, 0.5),
    "polynomial": schedules.PolynomialDecay(0.1, 70),
    "steps": schedules.PiecewiseConstantDecay([20, 41], [0.1, 0.01, 0.001]),
    "nested": keras_svag.schedules.WarmUp(schedules.CosineDecay(0.1, 90), 9, gradual=True),
}


def rates(optimizer, steps):
    """Learning rates of an optimizer at some steps."""
    if not optimizer.built:
        optimizer.build([keras.Variable(1.0)])
    found = []
    for step in steps:
        optimizer.iterations.assign(step)
        found.append(float(optimizer.learning_rate))
    return np.array(found)


@pytest.mark.parametrize("kappa", [3, 10, 0.5])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_p4_a_schedule_is_scaled_in_value_and_time(schedule, kappa):
    optimizer = keras.optimizers.RMSprop(schedule, rho=0.95)
    # Few, since JAX compiles the branches of some schedules at each call.
    steps = [1, 7, 11]
    base = rates(optimizer, [int(k * kappa) for k in steps])
    scaled = scale_optimizer(optimizer, kappa)
    # At each step, the rate of the base run after as many examples.
    np.testing.assert_allclose(rates(scaled, steps), kappa**0.5 * base, rtol=1e-5)
    # After as many steps, whatever the examples.
    longer = scale_optimizer(optimizer, kappa, keep_epochs=False)
    later = rates(longer, [int(k * kappa) for k in steps])
    np.testing.assert_allclose(later, kappa**0.5 * base, rtol=1e-5)
    # And back: no wrapper in a wrapper.
    back = scale_optimizer(scaled, 1 / kappa)._learning_rate
    assert not isinstance(back.schedule, keras_svag.ScaledSchedule)
    assert back.factor == pytest.approx(1) and back.time_scale == pytest.approx(1)


@pytest.mark.parametrize("kappa", [3, 7, 10, 49, 4 / 3])
def test_p4_no_step_of_a_schedule_is_lost_to_rounding(kappa):
    class Step(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return keras.ops.cast(step, "float32")

    steps = np.arange(3, 30_000, 3)
    scaled = keras_svag.ScaledSchedule(Step(), time_scale=1 / kappa)
    got = keras.ops.convert_to_numpy(scaled(keras.ops.convert_to_tensor(steps)))
    np.testing.assert_array_equal(got, np.round(steps * kappa))


def test_p4_the_scaled_schedule_is_saved_with_the_model(tmp_path):
    inputs = keras.Input((3,))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    optimizer = scale_optimizer(keras.optimizers.AdamW(SCHEDULES["cosine"]), 4)
    model.compile(optimizer, "mse")
    x = np.ones((32, 3))
    model.fit(x, x[:, :1], batch_size=8, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    steps = range(0, 30, 3)
    np.testing.assert_array_equal(rates(loaded.optimizer, steps), rates(optimizer, steps))


def test_p4_loss_scaling_stays_around_the_scaled_optimizer():
    inner = keras.optimizers.SGD(0.1, momentum=0.5)
    scaled = scale_optimizer(keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**9), 1.5)
    assert scaled.initial_scale == 2.0**9
    assert float(scaled.inner_optimizer.learning_rate) == pytest.approx(0.225)
    assert scaled.inner_optimizer.momentum == 0.25


@pytest.mark.parametrize("name", ["clipnorm", "clipvalue"])
@pytest.mark.parametrize("threshold", [0.3, 0.8, 3.0])
def test_p4_clipping_scales_with_the_noise(name, threshold):
    # Gradients of 100 entries, 0.1 and noise of size 1: clipped always, often and (almost) never.
    rng = np.random.default_rng(0)
    kappa, paths = 4, 60
    optimizer = keras.optimizers.SGD(
        0.1, **{name: threshold if name == "clipvalue" else 10 * threshold}
    )
    ends = []
    for factor, make in ((1, lambda: optimizer), (kappa, lambda: scale_optimizer(optimizer, 4))):
        weights = [keras.Variable(np.zeros(100, "float32")) for _ in range(paths)]
        chosen = make()
        for _ in range(kappa // factor):
            gradients = 0.1 + rng.normal(size=(paths, 100)) / factor**0.5
            chosen.apply(
                list(map(keras.ops.convert_to_tensor, gradients.astype("float32"))), weights
            )
        ends.append(np.array([keras.ops.convert_to_numpy(w) for w in weights]))
    small, large = ends
    # Mean and mean square of 6,000 entries, known to 7 % and 2 %. With the threshold of the small
    # batch the squares of the large one would be up to four times those.
    np.testing.assert_allclose(large.mean(), small.mean(), rtol=0.3)
    np.testing.assert_allclose(np.square(large).mean(), np.square(small).mean(), rtol=0.1)


def averaging(momentum=0.9, **more):
    return keras_svag.SVAG(1.0, use_ema=True, ema_momentum=momentum, **more)


def average_on_path(optimizer, moves):
    """Lets a weight make the moves, one per step; returns its last value and its average."""
    weight = keras.Variable(np.zeros(1, "float32"))
    divisor = float(optimizer.learning_rate) / optimizer.ell
    for move in moves:
        with optimizer.combined():
            optimizer.apply([keras.ops.convert_to_tensor([-move / divisor])], [weight])
    average = optimizer._model_variables_moving_average[0]
    return float(weight.numpy()[0]), float(average.numpy()[0])


def test_averages_of_weights_scale_with_the_batch():
    optimizer = make("sgd", use_ema=True, ema_momentum=0.99, ema_overwrite_frequency=100)
    scaled = scale_optimizer(optimizer, 4)
    np.testing.assert_allclose(scaled.ema_momentum, 0.99**4, rtol=1e-12)
    assert scaled.ema_overwrite_frequency == 25
    assert scale_optimizer(scaled, 100).ema_overwrite_frequency == 1  # not 0.25
    # Nothing limits kappa, not even 1 / (1 - m); m = 0 and m = 1 stay.
    for rate in (0.0, 0.9, 1.0):
        assert max_kappa(averaging(rate)) == np.inf
        assert scale_optimizer(averaging(rate), 64).ema_momentum == rate**64
        for ell in (1, 4, 1e4):
            actual = averaging(rate, ell=ell).amplified_hyperparameters["ema_momentum"]
            np.testing.assert_allclose(actual, rate ** (1 / ell), rtol=6e-8)


@pytest.mark.parametrize("count", [8, 16])
def test_average_of_a_path_that_moves_once_in_count_steps_is_kept(count):
    jumps = np.random.default_rng(0).normal(size=20)
    short_steps = np.zeros((20, count))
    short_steps[:, 0] = jumps
    # One step of count times the batch, and count SVAG steps: same average, up to float32 rounding
    # of numbers of order 1 in 20 x count steps, forgotten at the rate m^20.
    base = average_on_path(averaging(), short_steps.ravel())
    scaled = average_on_path(scale_optimizer(averaging(), count), jumps)
    np.testing.assert_allclose(scaled, base, rtol=0, atol=1e-5)
    plain = average_on_path(averaging(), jumps)
    amplified = average_on_path(averaging(ell=count), short_steps.ravel())
    np.testing.assert_allclose(amplified, plain, rtol=0, atol=1e-5)
    assert abs(plain[1] - base[1]) > 0.1


@pytest.mark.parametrize("rate", [0.9, 0.99])
def test_lag_of_the_average_on_a_straight_path(rate):
    kappa = 8
    steps = round(16 / (1 - rate))  # a multiple of kappa; what is left of the start is e^-16

    def lag(optimizer, move, steps):
        weight, average = average_on_path(optimizer, [move] * steps)
        return weight - average

    base = lag(averaging(rate), 1.0, steps)
    np.testing.assert_allclose(base, rate / (1 - rate), rtol=1e-4)
    scaled = lag(scale_optimizer(averaging(rate), kappa), float(kappa), steps // kappa)
    # docs/theory.md: kappa m^kappa / (1 - m^kappa), half as far from the base average as the lag
    # of the rule 1 - kappa (1 - m), which is off by kappa - 1.
    expected = kappa * rate**kappa / (1 - rate**kappa)
    np.testing.assert_allclose(scaled, expected, rtol=1e-4)
    assert 0 < base - scaled < (kappa - 1) / 2


@pytest.mark.parametrize("name", ["momentum", "rmsprop_momentum", "adam", "adamw"])
def test_keras_file_and_config_of_every_class(name, tmp_path):
    optimizer = make(name, amplified=True, ell=3)
    inputs = keras.Input((3,))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    model.compile(optimizer, "mse", jit_compile=True)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 1))
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == optimizer.get_config()
    for m in (model, loaded):
        m.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_class_trains_under_pure_dtypes(name, dtype):
    more = {"centered": True} if "rmsprop" in name else {}
    inputs = keras.Input((3,), dtype=dtype)
    kernel = keras.initializers.Constant(0.5)
    outputs = keras.layers.Dense(1, dtype=dtype, kernel_initializer=kernel)(inputs)
    model = keras_svag.SVAGModel(inputs, outputs)
    model.compile(make(name, amplified=True, ell=3, **more), "mse", jit_compile=True)
    model.fit(np.ones((8, 3)), np.zeros((8, 1)), batch_size=8, verbose=0)
    weight = keras.ops.convert_to_numpy(keras.ops.cast(model.trainable_variables[0], "float32"))
    assert np.isfinite(weight).all() and (weight != 0.5).all()
