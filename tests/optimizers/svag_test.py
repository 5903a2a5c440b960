"""Tests of the SVAG optimizer by itself and under a plain `keras.Model`."""

import json
import math
import pickle
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import SVAG
from keras_svag.optimizers import AmplificationMixin
from keras_svag.theory.scaling_rules import ScalingRule


def variables(*values):
    return [keras.Variable(np.array(v, "float32"), name=f"w{i}") for i, v in enumerate(values)]


def gradients(seed, shapes, count):
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=s).astype("float32") for s in shapes] for _ in range(count)]


def apply_all(optimizer, weights, batches):
    for batch in batches:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in batch], weights)
    return [w.numpy() for w in weights]


@pytest.mark.parametrize("decay", [None, 0.1], ids=["no_decay", "decay"])
@pytest.mark.parametrize("ell", [0.5, 1.0, 2.0, 7.5, 64.0])
def test_pairs_against_numpy(ell, decay):
    shapes = [(3,), (2, 2)]
    batches = gradients(0, shapes, 8)
    start = [np.array([1.0, -2.0, 0.5]), np.eye(2)]
    weights = variables(*start)
    actual = apply_all(SVAG(0.3, ell=ell, weight_decay=decay), weights, batches)
    root = math.sqrt(2 * ell - 1)
    expected = [w.copy() for w in start]
    for first, second in zip(batches[::2], batches[1::2]):
        for i, (g1, g2) in enumerate(zip(first, second)):
            expected[i] -= 0.3 / ell * (decay or 0.0) * expected[i]
            expected[i] -= 0.3 / ell * ((1 + root) / 2 * g1 + (1 - root) / 2 * g2)
    for a, e in zip(actual, expected):
        # Four steps of float32: a few ulps of the largest term, r1 times a gradient.
        np.testing.assert_allclose(a, e, rtol=0, atol=4 * 1e-7 * (1 + root) * 3)


def test_iterations_count_pairs_and_nothing_moves_after_a_first_half():
    optimizer = SVAG(0.1, ell=2, weight_decay=0.5)
    weights = variables([1.0, 2.0])
    first, second, third = gradients(1, [(2,)], 3)
    apply_all(optimizer, weights, [first])
    assert int(optimizer.iterations) == 0
    np.testing.assert_array_equal(weights[0].numpy(), [1.0, 2.0])
    apply_all(optimizer, weights, [second])
    moved = weights[0].numpy()
    assert int(optimizer.iterations) == 1
    assert not np.array_equal(moved, [1.0, 2.0])
    apply_all(optimizer, weights, [third])
    assert int(optimizer.iterations) == 1
    np.testing.assert_array_equal(weights[0].numpy(), moved)


def test_moving_average_advances_once_a_pair():
    optimizer = SVAG(0.1, ell=2, use_ema=True, ema_momentum=0.5)
    weights = variables([1.0])
    history = []
    for batch in gradients(2, [(1,)], 8):
        apply_all(optimizer, weights, [batch])
        history.append(weights[0].numpy().copy())
    average = history[1]  # Keras starts the average at the weights after the first step.
    for value in history[3::2]:
        # What a step of SGD forgets is forgotten in ell steps: m^(1 / ell) each.
        average = 0.5**0.5 * average + (1 - 0.5**0.5) * value
    np.testing.assert_allclose(
        optimizer._model_variables_moving_average[0].numpy(), average, rtol=1e-6
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"clipnorm": 0.5},
        {"global_clipnorm": 0.5},
        {"clipvalue": 0.1},
        {"loss_scale_factor": 8.0},
        {"use_ema": True, "ema_overwrite_frequency": 2},
    ],
    ids=lambda o: "_".join(o) or "plain",
)
def test_ell_one_is_keras_sgd_on_the_first_batches(options):
    batches = gradients(3, [(3,), (2, 2)], 10)
    start = ([0.3, -0.2, 1.0], [[1.0, 2.0], [3.0, 4.0]])
    ours = apply_all(SVAG(0.1, ell=1, **options), variables(*start), batches)
    keras_sgd = keras.optimizers.SGD(0.1, **options)
    theirs = apply_all(keras_sgd, variables(*start), batches[::2])
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


def test_half_is_sgd_on_the_union_at_twice_the_rate():
    batches = gradients(4, [(3,)], 6)
    ours = apply_all(SVAG(0.1, ell=0.5), variables([1.0, 2.0, 3.0]), batches)
    union = [[(a + b) / 2] for (a,), (b,) in zip(batches[::2], batches[1::2])]
    theirs = apply_all(keras.optimizers.SGD(0.2), variables([1.0, 2.0, 3.0]), union)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)


@pytest.mark.parametrize("ell", [1.0, 1.5, 2.0, 4.0, 7.3])
def test_schedule_is_read_at_the_effective_step(ell):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1, 3], [1.0, 0.1, 0.01])
    optimizer = SVAG(schedule, ell=ell)
    weights = variables([0.0])
    rates, position = [], 0.0
    for batch in gradients(5, [(1,)], 2 * math.ceil(6 * ell)):
        apply_all(optimizer, weights, [np.ones_like(batch)])
    # All gradients are 1, so the weight has moved by minus the sum of eta(floor(k / l)) / l.
    for k in range(math.ceil(6 * ell)):
        effective = math.floor(k / ell)
        rates.append(1.0 if effective <= 1 else 0.1 if effective <= 3 else 0.01)
        position -= rates[-1] / ell
    np.testing.assert_allclose(weights[0].numpy(), [position], rtol=1e-5)
    # Phases are as long as they are for SGD, times ell.
    assert rates.count(1.0) == math.ceil(2 * ell)


def test_learning_rate_stays_on_the_scale_of_sgd():
    optimizer = SVAG(0.8, ell=4)
    assert float(optimizer.learning_rate) == np.float32(0.8)
    optimizer.learning_rate = 0.4
    weights = variables([0.0])
    apply_all(optimizer, weights, [[np.ones(1, "float32")]] * 2)
    np.testing.assert_allclose(weights[0].numpy(), [-0.1], rtol=1e-6)
    callable_rate = SVAG(lambda: 0.8, ell=4)
    weights = variables([0.0])
    apply_all(callable_rate, weights, [[np.ones(1, "float32")]] * 2)
    np.testing.assert_allclose(weights[0].numpy(), [-0.2], rtol=1e-6)


def test_ell_can_be_assigned():
    assert SVAG(1.0, ell=7.3).ell == 7.3  # not the nearest float32
    optimizer = SVAG(1.0, ell=1)
    optimizer.ell = 7.3
    assert optimizer.ell == 7.3
    assert optimizer.get_config()["ell"] == 7.3
    weights = variables([0.0])
    apply_all(optimizer, weights, [[np.array([1.0], "float32")], [np.array([3.0], "float32")]])
    r1, r2 = keras_svag.svag_coefficients(7.3)
    np.testing.assert_allclose(weights[0].numpy(), [-(r1 + 3 * r2) / 7.3], rtol=1e-6)
    with pytest.raises(ValueError, match="Received: ell=0.1"):
        optimizer.ell = 0.1
    assert optimizer.ell == 7.3


def test_ell_can_be_assigned_when_a_hyperparameter_is_used_no_more():
    halves = [[np.array([1.0], "float32")], [np.array([3.0], "float32")]]
    steps = []
    for momentum in (0.0, 0.9):
        optimizer, weights = SVAG(1.0, momentum=momentum), variables([0.0])
        optimizer.momentum, optimizer.ell = 0.0, 4.0
        apply_all(optimizer, weights, halves)
        steps.append(weights[0].numpy())
    np.testing.assert_array_equal(*steps)
    optimizer.momentum = 0.9
    optimizer.ell = 2.0
    assert optimizer.amplified_hyperparameters["momentum"] == pytest.approx(0.95)
    optimizer = SVAG(1.0)
    optimizer.momentum = 0.9
    with pytest.raises(ValueError, match="it was created with. Received: values of momentum and"):
        optimizer.ell = 2.0


def test_a_rule_may_name_its_powers_in_any_order():
    powers = {"learning_rate": 2.0, "weight_decay": 0.0}
    orders = powers, dict(reversed(powers.items()))

    class InTurn(AmplificationMixin, keras.optimizers.SGD):
        number = 0
        scaling_rule = staticmethod(lambda o: (ScalingRule("mine", orders[o.number]),))

        def __init__(self, learning_rate=0.01, ell=1.0, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self._init_amplification(ell)

    optimizer = InTurn(1.0)
    optimizer.number, optimizer.ell = 1, 4
    assert optimizer.amplified_hyperparameters["learning_rate"] == 1 / 16


def test_a_state_of_other_hyperparameters_is_not_loaded_by_halves(tmp_path):
    x = np.ones((8, 3), "float32")

    def trained(epochs, **options):
        keras.utils.set_random_seed(0)
        model = keras_svag.from_keras(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
        model.compile(keras_svag.SVAGAdam(**options), "mse")
        model.fit(x, x[:, :1], batch_size=4, epochs=epochs, verbose=0)
        return model

    trained(3, beta_1=0.0, ell=4, learning_rate=0.1).save_weights(tmp_path / "other.weights.h5")
    model = trained(1)
    before = [v.numpy() for v in model.optimizer.variables]
    with pytest.warns(UserWarning, match="state of SVAGAdam was not loaded: it was saved with oth"):
        model.load_weights(tmp_path / "other.weights.h5")
    for variable, value in zip(model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_loaded_state_keeps_the_hyperparameters_of_the_optimizer(tmp_path):
    # As many values depend on `ell` in both, of one decay rate each.
    models = []
    for options in ({"beta_1": 0.0, "ell": 4.0}, {"beta_2": 0.0}):
        models.append(
            keras_svag.from_keras(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
        )
        models[-1].compile(keras_svag.SVAGAdam(**options), "mse")
        models[-1].optimizer.build(models[-1].trainable_variables)
    models[0].save_weights(tmp_path / "state.weights.h5")
    models[1].load_weights(tmp_path / "state.weights.h5")
    loaded = models[1].optimizer
    expected = keras_svag.SVAGAdam(beta_2=0.0, ell=4.0).amplified_hyperparameters
    assert loaded.ell == 4.0 and loaded.amplified_hyperparameters == expected


def test_coefficients_sum_to_one_in_float32():
    # At ell = 1e6 the weights are about 707: a rounding error in their sum would drift along the
    # gradient. Equal halves must give the gradient itself, up to an ulp of r1 g.
    optimizer = SVAG(1e6, ell=1e6)
    weights = variables([0.0])
    apply_all(optimizer, weights, [[np.array([1.0], "float32")]] * 2)
    np.testing.assert_allclose(weights[0].numpy(), [-1.0], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ell": 0.4}, r"`ell` must be a finite number >= 0.5.*Received: ell=0.4"),
        ({"ell": math.nan}, r"`ell`.*Received: ell=nan"),
        ({"ell": "4"}, r"`ell`.*Received: ell='4'"),
        ({"ell": 2, "clipnorm": 1.0}, r"`clipnorm` cannot.*Received: clipnorm=1.0.*Set ell=1"),
        ({"ell": 2, "clipvalue": 1.0}, r"`clipvalue` cannot.*Received: clipvalue=1.0"),
        ({"ell": 2, "global_clipnorm": 1.0}, r"`global_clipnorm` cannot.*Received"),
        (
            {"ell": 2, "use_ema": True, "ema_overwrite_frequency": 3},
            r"`ema_overwrite_frequency` must.*Received: ema_overwrite_frequency=3, ell=2",
        ),
        (
            {"ell": 0.5, "momentum": 0.25},
            r"`ell` must be above 0.75 for momentum.*Received: ell=0.5. Use a larger ell",
        ),
    ],
    ids=[
        "small",
        "nan",
        "string",
        "clipnorm",
        "clipvalue",
        "global_clipnorm",
        "overwrite",
        "momentum",
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SVAG(0.1, **arguments)


def test_clipping_is_refused_when_ell_grows_later():
    optimizer = SVAG(0.1, ell=1, clipnorm=1.0)
    with pytest.raises(ValueError, match="`clipnorm` cannot be used with `ell > 1`"):
        optimizer.ell = 2
    assert optimizer.ell == 1


def test_numbers_that_are_no_python_floats():
    config = SVAG(np.float32(0.5), ell=np.int64(2), weight_decay=1).get_config()
    assert (config["learning_rate"], config["ell"], config["weight_decay"]) == (0.5, 2.0, 1.0)


def test_config_is_json_and_complete():
    optimizer = SVAG(0.25, ell=3, weight_decay=0.125, use_ema=True, name="mine")
    config = optimizer.get_config()
    assert SVAG.from_config(json.loads(json.dumps(config))).get_config() == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(revived) is SVAG
    assert revived.get_config() == config
    assert set(dir(SVAG(0.1))) == set(dir(SVAG.from_config(SVAG(0.1).get_config())))


def test_schedule_survives_serialization():
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 10)
    revived = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(SVAG(schedule, ell=2))
    )
    assert isinstance(revived._learning_rate, keras.optimizers.schedules.CosineDecay)


def test_pickle_keeps_a_half_finished_pair():
    optimizer = SVAG(0.1, ell=2)
    model = small_model()
    model.compile(optimizer, "mse")
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    revived = pickle.loads(pickle.dumps(model)).optimizer
    for a, b in zip(optimizer.variables, revived.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def small_model():
    inputs = keras.Input((3,))
    return keras.Model(inputs, keras.layers.Dense(1)(inputs))


RESUME = """
import sys
import keras, numpy as np, keras_svag
model = keras.saving.load_model(sys.argv[1])
rng = np.random.default_rng(1)
x, y = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 4, 1))
for step in range(3, 5):
    model.train_on_batch(x[step], y[step])
np.savez(sys.argv[2], *model.get_weights(), ell=model.optimizer.ell)
"""


def test_keras_file_in_a_fresh_process_goes_on_in_mid_pair(tmp_path):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 4, 1))
    model = small_model()
    model.compile(SVAG(0.1, ell=3, weight_decay=0.01), "mse", jit_compile=False)
    for step in range(3):
        model.train_on_batch(x[step], y[step])
    model.save(tmp_path / "model.keras")
    for step in range(3, 5):
        model.train_on_batch(x[step], y[step])
    command = [sys.executable, "-W", "error::UserWarning", "-W", "ignore:SVAG pairs", "-c", RESUME]
    subprocess.run(
        [*command, tmp_path / "model.keras", tmp_path / "end.npz"], check=True, capture_output=True
    )
    end = np.load(tmp_path / "end.npz")
    assert end["ell"] == 3.0
    for i, weight in enumerate(model.get_weights()):
        np.testing.assert_array_equal(end[f"arr_{i}"], weight)


@pytest.mark.parametrize("jit", [False, True], ids=["op_by_op", "xla"])
def test_plain_model_pairs_consecutive_batches(jit):
    # 12 batches of 4 are six steps on the same halves as six batches of 8 with SVAGModel.
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(48, 3)), rng.normal(size=(48, 1))
    plain, split = small_model(), keras_svag.from_keras(small_model())
    split.set_weights(plain.get_weights())
    plain.compile(SVAG(0.1, ell=4), "mse", jit_compile=jit)
    plain.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    # SVAGModel takes even and odd positions: interleave each pair of batches of 4.
    order = np.arange(48).reshape(6, 2, 4).transpose(0, 2, 1).ravel()
    split.compile(SVAG(0.1, ell=4), "mse", jit_compile=jit)
    split.fit(x[order], y[order], batch_size=8, shuffle=False, verbose=0)
    assert int(plain.optimizer.iterations) == int(split.optimizer.iterations) == 6
    for a, b in zip(plain.get_weights(), split.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.requires_tensorflow
def test_k5_pairs_take_float64_gradients_of_float32_weights():
    # Keras takes them; JAX has no float64 unless it is switched on.
    shapes = [(3,)]
    batches = gradients(0, shapes, 4)
    ends = []
    for dtype in ("float32", "float64"):
        weights = variables(np.ones(3))
        optimizer = SVAG(0.3, ell=4, momentum=0.5)
        ends.append(apply_all(optimizer, weights, [[g.astype(dtype) for g in b] for b in batches]))
    assert ends[1][0].dtype == "float32"
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-6)


def pairing_warnings(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(w.message) for w in caught if "pairs" in str(w.message)]


def test_k_a_plain_model_that_pairs_warns_once_per_optimizer():
    x, y = np.ones((8, 3), "float32"), np.ones((8, 1), "float32")
    model = keras_svag.SVAGSequential([keras.Input((3,)), keras.layers.Dense(1)])
    clone = keras.models.clone_model(model)
    assert not isinstance(clone, keras_svag.SVAGModel)
    model.compile(SVAG(0.1, ell=2), "mse")
    clone.compile(SVAG(0.1, ell=2), "mse")
    assert pairing_warnings(lambda: model.fit(x, y, batch_size=4, verbose=0)) == []
    told = pairing_warnings(lambda: clone.fit(x, y, batch_size=4, epochs=2, verbose=0))
    assert len(told) == 1 and "keras_svag.from_keras" in told[0] and told[0].startswith("SVAG ")
    assert pairing_warnings(lambda: clone.fit(x[:7], y[:7], batch_size=4, verbose=0)) == []
    clone.compile(keras_svag.SVAGAdam(0.1, ell=2), "mse")
    told = pairing_warnings(lambda: clone.fit(x, y, batch_size=4, verbose=0))
    assert len(told) == 1 and told[0].startswith("SVAGAdam ")


def test_embedding_gradients_in_a_plain_model():
    model = keras.Sequential([keras.layers.Embedding(5, 2), keras.layers.Flatten()])
    model.compile(SVAG(0.5, ell=2), "mse", jit_compile=False)
    model.build((None, 1))
    start = model.get_weights()[0].copy()
    tokens = np.array([[1], [1], [2], [4]])
    target = np.zeros((4, 2))
    for i in (0, 2):
        model.train_on_batch(tokens[i : i + 2], target[i : i + 2])
    # Mean squared error over two columns: the gradient of a batch is the mean of the rows.
    g1, g2 = np.zeros((5, 2)), np.zeros((5, 2))
    g1[1] = start[1]
    g2[2], g2[4] = start[2] / 2, start[4] / 2
    r1, r2 = keras_svag.svag_coefficients(2)
    expected = start - 0.25 * (r1 * g1 + r2 * g2)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)


def test_callbacks_see_the_scale_of_sgd():
    model = keras_svag.from_keras(small_model())
    model.compile(SVAG(0.8, ell=4), "mse", jit_compile=False)
    seen = []

    def schedule(epoch, rate):
        seen.append(rate)
        return rate / 2

    x, y = np.ones((8, 3)), np.ones((8, 1))
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9)
    callbacks = [keras.callbacks.LearningRateScheduler(schedule), plateau]
    history = model.fit(x, y, batch_size=4, epochs=3, callbacks=callbacks, verbose=0).history
    np.testing.assert_allclose(seen[0], 0.8, rtol=1e-6)
    assert seen[1] <= 0.4 + 1e-6
    assert history["learning_rate"][0] == pytest.approx(0.4)


def move_of_one_step(dtype, split, x, y):
    """Change of the kernel in one SVAG step, with the layer in `dtype`."""
    inputs = keras.Input((3,))
    kernel = keras.initializers.Constant(0.3)
    outputs = keras.layers.Dense(1, kernel_initializer=kernel, dtype=dtype)(inputs)
    model = (keras_svag.SVAGModel if split else keras.Model)(inputs, outputs)
    optimizer = SVAG(1.0, ell=64)
    if dtype == "mixed_float16":
        # What compile does under a global policy, with a scale that fits one step.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
    model.compile(optimizer, "mse", jit_compile=False)
    for batch in [slice(None)] if split else [slice(0, None, 2), slice(1, None, 2)]:
        logs = model.train_on_batch(x[batch], y[batch], return_dict=True)
    return model.get_weights()[0] - 0.3, logs


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("split", [False, True], ids=["plain", "split"])
def test_mixed_precision_combines_in_float32(policy, split):
    # The same network in float32 is the oracle. bfloat16 keeps 8 bits: gradients of order 1 agree
    # to 2^-8, and at ell = 64 the halves weigh 6.1 and -5.1 and the step is 1/64: 11 * 2^-8 / 64,
    # doubled for the forward pass. float16 keeps 11 bits.
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
    expected, expected_logs = move_of_one_step("float32", split, x, y)
    actual, logs = move_of_one_step(policy, split, x, y)
    bits = 11 if policy == "mixed_float16" else 8
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2 * 11 * 2.0**-bits / 64 * 3)
    assert np.abs(expected).max() > 0.1
    if split:
        for name in ("gradient_noise", "gradient_signal"):
            np.testing.assert_allclose(logs[name], expected_logs[name], rtol=0.05)


def test_mixed_float16_policy_wraps_and_trains():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras_svag.from_keras(small_model())
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(SVAG(0.1, ell=2), "mse", jit_compile=True)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 3))
    history = model.fit(x, x @ [[1.0], [2.0], [3.0]], batch_size=16, epochs=12, verbose=0).history
    assert history["loss"][-1] < 0.01 * history["loss"][0]
    assert np.isfinite(history["gradient_noise"]).all()


def pure_apply(optimizer):
    """`optimizer.apply` by way of `stateless_apply`, all that Keras' loss scaling has on JAX."""

    def apply(gradients, weights):
        values = [[v.value for v in variables] for variables in (optimizer.variables, weights)]
        new_weights, new_variables = optimizer.stateless_apply(values[0], gradients, values[1])
        for v, value in zip([*weights, *optimizer.variables], [*new_weights, *new_variables]):
            v.assign(value)

    return apply


def test_loss_scaling_skips_a_bad_half_and_pairs_the_next():
    inner = SVAG(0.1, ell=2)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
    weights = variables([1.0])
    good = [keras.ops.convert_to_tensor(np.array([1.0], "float32"))]
    bad = [keras.ops.convert_to_tensor(np.array([np.inf], "float32"))]
    optimizer.build(weights)
    apply = optimizer.apply if keras.backend.backend() == "tensorflow" else pure_apply(optimizer)
    apply(good, weights)
    apply(bad, weights)  # dropped, and the loss scale halved
    apply([0.5 * g for g in good], weights)
    assert int(inner.iterations) == 1
    # Equal halves: the amplified gradient is the gradient, the step eta / l.
    np.testing.assert_allclose(weights[0].numpy(), [1.0 - 0.05], rtol=1e-6)


@pytest.mark.parametrize(
    ("floatx", "dtype", "rtol"),
    [
        ("bfloat16", "float32", 1e-6),  # bfloat16 would be off by up to 2^-9
        pytest.param("float64", "float64", 1e-12, marks=pytest.mark.requires_tensorflow),
    ],
)
def test_coefficients_are_in_floatx_but_at_least_float32(floatx, dtype, rtol):
    keras.config.set_floatx(floatx)
    try:
        optimizer = SVAG(0.5, ell=64)
        weight = keras.Variable(np.zeros(1, dtype), dtype=dtype)
        apply_all(optimizer, [weight], [[np.array([1.0], dtype)], [np.zeros(1, dtype)]])
    finally:
        keras.config.set_floatx("float32")
    r1, _ = keras_svag.svag_coefficients(64)
    np.testing.assert_allclose(weight.numpy(), [-0.5 / 64 * r1], rtol=rtol)


def test_gradients_of_pure_bfloat16_are_weighted_in_float32():
    # r1 = 6.13 has no place in 8 bits: equal halves would not give the gradient itself.
    optimizer = SVAG(64.0, ell=64)
    weight = keras.Variable(np.zeros(1), dtype="bfloat16")
    one = keras.ops.ones(1, "bfloat16")
    for _ in range(2):
        optimizer.apply([one], [weight])
    assert float(weight[0]) == -1.0
    [combined] = optimizer.combine([one], [0 * one])
    r1, _ = keras_svag.svag_coefficients(64)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(combined), [r1], rtol=1e-6)
