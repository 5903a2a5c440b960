"""An optimizer whose batch grows in mid-run, against the run that did not stop.

As in keras_rules_test.py, many chains of a noisy quadratic. One run takes small steps to its end;
another one grows the batch by KAPPA at step GROWTH, and is compared soon after, when a state that
does not belong to the batch still shows.
"""

import contextlib

import keras
import numpy as np
import pytest
import scipy.linalg

import keras_svag
from keras_svag.optimizers import growth, state
from keras_svag.optimizers.growth import grow_optimizer
from keras_svag.schedules import ScaledSchedule

CHAINS, GROWTH, STEPS, KAPPA, SIGMA, CLOSE = 8000, 40, 72, 4, 10.0, 0.1
optimizers = keras.optimizers


def run(optimizer, grows):
    """Moves of the chains from GROWTH to STEPS; their loss has its minimum at 1."""
    rng = np.random.default_rng(7 + grows)
    weight = keras.Variable(np.zeros(CHAINS, "float32"))
    time, kappa, before = 0, 1, None
    while time < STEPS:
        if time == GROWTH:
            before = weight.numpy()
            if grows:
                kappa = KAPPA
                grow_optimizer(optimizer, KAPPA)
        noise = rng.standard_normal(CHAINS, dtype="float32")
        gradient = weight.numpy() - 1 + SIGMA / np.sqrt(kappa) * noise
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
        time += kappa
    return weight.numpy().astype("float64") - before


def distance(moves, base):
    """Difference of the means in units of the spread, and of the logs of the spreads."""
    mean = np.abs(moves.mean() - base.mean()) / base.std()
    return max(mean, np.abs(np.log(moves.std() / base.std())))


CASES = {
    "sgd": (lambda: optimizers.SGD(0.0025, momentum=0.98, weight_decay=0.1), False),
    "adam": (lambda: optimizers.AdamW(0.05, beta_1=0.98, beta_2=0.995, weight_decay=0.1), True),
    # Here the average of squares is not yet at its level when the batch grows.
    "adam_young": (lambda: optimizers.Adam(0.05, beta_1=0.98), True),
    "amsgrad": (lambda: optimizers.Adam(0.05, beta_1=0.98, beta_2=0.995, amsgrad=True), True),
    "rmsprop": (lambda: optimizers.RMSprop(0.02, rho=0.99), True),
    "centered": (lambda: optimizers.RMSprop(0.02, rho=0.98, centered=True), True),
    "rmsprop_momentum": (lambda: optimizers.RMSprop(0.001, rho=0.99, momentum=0.98), True),
    "nadam": (lambda: optimizers.Nadam(0.05, beta_1=0.98, beta_2=0.98), True),
    "adagrad": (lambda: optimizers.Adagrad(2.0, initial_accumulator_value=1e4), True),
    "ftrl": (lambda: optimizers.Ftrl(2.0, initial_accumulator_value=1e4, beta=20.0), True),
    "lion": (lambda: optimizers.Lion(0.025, beta_1=0.98, beta_2=0.98), False),
}


FAST = ("sgd", "adam_young", "rmsprop_momentum", "adagrad")
SPLIT = [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CASES]


@pytest.mark.parametrize("name", SPLIT)
def test_run_goes_on_in_the_distribution_of_more_small_steps(name, monkeypatch):
    make, has_scaled_state = CASES[name]
    base = run(make(), False)
    assert distance(run(make(), True), base) < CLOSE
    if has_scaled_state:
        monkeypatch.setattr(growth, "state_factors", lambda *args: [])
        assert distance(run(make(), True), base) > 2 * CLOSE


def test_heavy_ball_keeps_its_stationary_moments():
    # Exact: the covariance of position and velocity at its fixed point for the small batch, then
    # under the large one. The rule is of order kappa c; a velocity that is not scaled is not.
    curvature, base = 1.0, optimizers.SGD(2e-5, momentum=0.999)

    def dynamics(optimizer, kappa):
        rate, b = float(optimizer.learning_rate), optimizer.momentum
        move = np.array([[1 - rate * curvature, b], [-rate * curvature, b]])
        kick = rate * SIGMA / np.sqrt(kappa) * np.ones(2)
        return move, np.outer(kick, kick)

    covariance = scipy.linalg.solve_discrete_lyapunov(*dynamics(base, 1))
    spread = covariance[0, 0]
    base.build([keras.Variable(0.0)])
    base.momentums[0].assign(1.0)
    grow_optimizer(base, KAPPA)
    move, noise = dynamics(base, KAPPA)

    def worst(factor):
        scale, ratios = np.diag([1.0, factor]), []
        moments = scale @ covariance @ scale
        for _ in range(500):
            moments = move @ moments @ move.T + noise
            ratios.append(abs(moments[0, 0] / spread - 1))
        return max(ratios)

    assert worst(float(base.momentums[0])) < 0.01
    assert worst(1.0) > 0.1


# Attribute, its value after k steps of gradients of one size s, and that size at the larger batch.
NOISE = ("_velocities", lambda b, k, s: (1 - b**k) * s**2, KAPPA**-0.5)
SIGNAL = ("_momentums", lambda b, k, s: (1 - b**k) * s, 1.0)
MUON = ("momentums", lambda b, k, s: s / (1 - b), 1.0)  # whose length Muon ignores
FIXED_POINTS = {
    "adam_noise": (lambda: optimizers.Adam(0.01, beta_1=0.9, beta_2=0.98), "beta_2", NOISE),
    "adam_signal": (lambda: optimizers.Adam(0.01, beta_1=0.9, beta_2=0.98), "beta_1", SIGNAL),
    "lamb_noise": (lambda: optimizers.Lamb(0.01, beta_1=0.9, beta_2=0.98), "beta_2", NOISE),
    "lamb_signal": (lambda: optimizers.Lamb(0.01, beta_1=0.9, beta_2=0.98), "beta_1", SIGNAL),
    "svag_noise": (lambda: keras_svag.SVAGAdam(0.01, beta_2=0.98, ell=2.0), "beta_2", NOISE),
    "muon": (lambda: optimizers.Muon(0.01, momentum=0.9), "momentum", MUON),
}


@pytest.mark.parametrize("name", FIXED_POINTS)
def test_state_of_a_constant_gradient_is_that_of_the_larger_batch(name):
    # Growth moves an average to its value at the larger batch, and Keras' update leaves it there.
    make, rate_name, (attribute, value, factor) = FIXED_POINTS[name]
    optimizer, weight = make(), keras.Variable(np.eye(2, dtype="float32"), name="kernel")
    optimizer.build([weight])
    size, steps = 2.0, 30

    def expected(size, steps):
        b = 1 - (1 - getattr(optimizer, rate_name)) / getattr(optimizer, "ell", 1.0)
        return np.full((2, 2), value(b, steps, size))

    variable = getattr(optimizer, attribute)[0]
    variable.assign(expected(size, steps))
    optimizer.variables[0].assign(steps)
    grow_optimizer(optimizer, KAPPA)
    np.testing.assert_allclose(variable.numpy(), expected(size * factor, steps), rtol=1e-5)
    gradient = keras.ops.convert_to_tensor(np.full((2, 2), size * factor, "float32"))
    with getattr(optimizer, "combined", contextlib.nullcontext)():
        optimizer.apply([gradient], [weight])
    np.testing.assert_allclose(variable.numpy(), expected(size * factor, steps + 1), rtol=1e-5)


def test_velocity_follows_the_rate_under_the_linear_rule_too():
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    optimizer.build([keras.Variable(0.0)])
    optimizer.momentums[0].assign(0.5)
    grow_optimizer(optimizer, 4, rule="linear")
    assert float(optimizer.momentums[0]) == 2.0
    assert optimizer.momentum == 0.9
    assert float(optimizer.learning_rate) == pytest.approx(0.4)


def test_centered_rmsprop_divides_the_variance_and_keeps_the_signal():
    # v / kappa would be less than the square of the average: Keras would take a negative root.
    optimizer, weight = optimizers.RMSprop(0.01, centered=True), keras.Variable(np.zeros(3))
    optimizer.build([weight])
    average, noise = np.array([3.0, -1.0, 0.0]), np.array([1.0, 8.0, 0.0])
    optimizer._average_gradients[0].assign(average)
    optimizer._velocities[0].assign(average**2 + noise)
    grow_optimizer(optimizer, KAPPA)
    np.testing.assert_allclose(optimizer._velocities[0].numpy(), average**2 + noise / KAPPA)
    np.testing.assert_array_equal(optimizer._average_gradients[0].numpy(), average)
    optimizer.apply([keras.ops.convert_to_tensor(average.astype("float32"))], [weight])
    assert np.isfinite(weight.numpy()).all()


@pytest.mark.parametrize("name", state.POWERS)
def test_private_names_of_the_state_exist(name):
    options = {"momentum": 0.5} if name in ("SGD", "RMSprop") else {}
    options |= {"amsgrad": True} if name == "Adam" else {}
    options |= {"centered": True} if name == "RMSprop" else {}
    optimizer = getattr(optimizers, name)(0.1, **options)
    weight = keras.Variable(np.ones((2, 2), "float32"), name="kernel")
    optimizer.build([weight, keras.Variable(np.ones(2, "float32"), name="bias")])
    slots = {id(v) for n in state.POWERS[name] for v in getattr(optimizer, n) if v is not None}
    # Scalars are the step, the learning rate, and a product of decay rates in Nadam.
    others = [v for v in optimizer.variables if len(v.shape)]
    assert slots == {id(v) for v in others}


class Unknown(optimizers.Optimizer):
    scaling_rule = keras_svag.theory.scaling_rules.LINEAR_RULE


class Known(Unknown):
    state_powers = {"memory": 1}


def test_own_optimizer_declares_powers_of_its_state():
    with pytest.raises(ValueError, match="state_powers"):
        state.check_can_grow(Unknown(0.1))
    optimizer = Known(0.1)
    optimizer.memory = [keras.Variable(3.0)]
    grow_optimizer(optimizer, 2)
    assert float(optimizer.memory[0]) == 6.0
    misspelled = Known(0.1)
    misspelled.build([keras.Variable(0.0)])
    with pytest.raises(ValueError, match="no 'memory'"):
        state.check_can_grow(misspelled)


@pytest.mark.parametrize("name", ["Adafactor", "ScheduleFreeAdamW"])
def test_optimizers_that_count_steps_are_refused(name):
    if hasattr(optimizers, name):
        with pytest.raises(ValueError, match="number of steps"):
            state.check_can_grow(getattr(optimizers, name)(0.1))


def test_schedule_goes_on_in_time_of_examples():
    cosine = optimizers.schedules.CosineDecay(0.1, 1000)
    optimizer = optimizers.SGD(cosine)
    weight = keras.Variable(0.0)
    optimizer.build([weight])
    optimizer.variables[0].assign(100)
    grow_optimizer(optimizer, 2)  # step 100 is time 100, then two per step
    optimizer.variables[0].assign(150)
    assert float(optimizer.learning_rate) == pytest.approx(2 * float(cosine(200)), rel=1e-6)
    grow_optimizer(optimizer, 1.5)  # time 200, then three per step
    optimizer.variables[0].assign(250)
    assert float(optimizer.learning_rate) == pytest.approx(3 * float(cosine(500)), rel=1e-6)
    restored = ScaledSchedule.from_config(
        optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"]).get_config()
    )
    assert float(restored(250)) == float(optimizer.learning_rate)
    # A larger batch from the beginning: all steps, and that at which the scales begin, are fewer.
    halved = keras_svag.scale_optimizer(optimizer, 2)
    schedule = optimizers.schedules.deserialize(halved.get_config()["learning_rate"])
    assert float(schedule(125)) == pytest.approx(6 * float(cosine(500)), rel=1e-6)
    # It has no rate before its beginning, such as a negative one of a warm-up.
    warm_up = optimizers.schedules.PolynomialDecay(0.0, 100, 1.0)
    assert float(ScaledSchedule(warm_up, 1.0, 0.5, step=10, time=10.0)(0)) == 0.0
