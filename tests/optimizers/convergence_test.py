"""Adaptive SVAG tends to the SDEs of Malladi et al. 2022 (arXiv 2205.10287) with order 1 in 1/l.

The optimizers themselves are run on many independent copies of a scalar problem with losses
`a_i x^2 / 2 + b_i x`, second moments warm, against a fine Euler-Maruyama simulation (extrapolated
in its step) of, in effective steps t,

    RMSprop:  dx = -eta / sqrt(w + eps) (grad L dt + Sigma(x)^(1/2) dW)
    Adam:     dx = -eta m / (sqrt(w) + eps) dt,  dm = (1-b1) ((grad L - m) dt + Sigma(x)^(1/2) dW)
    both:     dw = (1-b2) (Sigma(x) - w) dt,     and decay: dx = ... - eta lambda x dt.

Monte-Carlo errors are reduced by a control variate: the same problem with the preconditioner
frozen at its start, which is linear, so that its mean is known exactly.
"""

import keras
import numpy as np
import pytest

import keras_svag

TABLE_A = np.array([0.4, 1.6, 1.0, 1.0])
TABLE_B = np.array([1.0, -1.0, 1.5, -1.5])
START, HORIZON, RATE, MEMORY, AVERAGING, EPSILON, DECAY = 1.5, 8, 0.3, 0.2, 0.3, 1e-3, 0.1
CHAINS = 200_000
ELLS = (16, 32, 64)


def variance(x):
    """Sigma(x), the variance of one example's gradient."""
    cross = np.mean((TABLE_A - TABLE_A.mean()) * (TABLE_B - TABLE_B.mean()))
    return TABLE_A.var() * x**2 + 2 * cross * x + TABLE_B.var()


def preconditioner(w, adam):
    """What divides the step, from the second moment w (in units of Sigma)."""
    return np.sqrt(w) + EPSILON if adam else np.sqrt(w + EPSILON)


def controlled_mean(x, y, exact_y):
    """Mean of x and its standard error, given that y has mean `exact_y`."""
    slope = np.cov(x, y)[0, 1] / y.var()
    residual = x - slope * (y - exact_y)
    return residual.mean(), residual.std() / np.sqrt(len(x))


class LinearControl:
    """The same noise with the preconditioner frozen: y of each chain, and its exact mean."""

    def __init__(self, adam, step):
        # Per step of length `step`: m += averaging * step * (g - m) for Adam, else m is g itself.
        self.adam, self.step = adam, step
        self.scale = RATE / preconditioner(variance(START), adam)
        self.y, self.m = np.full(CHAINS, START), np.zeros(CHAINS)
        self.mean_y, self.mean_m = START, 0.0

    def move(self, gradient):
        """One step; `gradient` is a function of y, linear, and the mean gradient's at its mean."""
        mean_gradient = TABLE_A.mean() * self.mean_y + TABLE_B.mean()
        noisy = gradient(self.y)
        shrink = 1 - RATE * DECAY * self.step
        if self.adam:
            self.m = self.m + AVERAGING * self.step * (noisy - self.m)
            self.mean_m += AVERAGING * self.step * (mean_gradient - self.mean_m)
        else:
            self.m, self.mean_m = noisy, mean_gradient
        self.y = shrink * self.y - self.scale * self.step * self.m
        self.mean_y = shrink * self.mean_y - self.scale * self.step * self.mean_m


def svag_mean(optimizer, ell, adam):
    """E x at the horizon by the optimizer itself."""
    rng = np.random.default_rng(ell)
    weight = keras.Variable(np.full(CHAINS, START, "float32"))
    optimizer.build([weight])
    # Warm: the second moment of the amplified gradient at the start, and no bias correction left.
    optimizer._velocities[0].assign(np.full(CHAINS, ell * variance(START)))
    optimizer._iterations.assign(10**8)
    control = LinearControl(adam, 1 / ell)
    r1, r2 = keras_svag.svag_coefficients(ell)
    for _ in range(HORIZON * ell):
        first, second = rng.integers(len(TABLE_A), size=(2, CHAINS))
        a = r1 * TABLE_A[first] + r2 * TABLE_A[second]
        b = r1 * TABLE_B[first] + r2 * TABLE_B[second]
        gradient = keras.ops.convert_to_tensor((a * weight.numpy() + b).astype("float32"))
        with optimizer.combined():
            optimizer.apply([gradient], [weight])
        control.move(lambda y, a=a, b=b: a * y + b)
    return controlled_mean(weight.numpy().astype(np.float64), control.y, control.mean_y)


def sde_mean(steps_per_unit, adam):
    """E x at the horizon by Euler-Maruyama."""
    rng = np.random.default_rng(steps_per_unit)
    dt = 1 / steps_per_unit
    x, w, m = np.full(CHAINS, START), np.full(CHAINS, variance(START)), np.zeros(CHAINS)
    control = LinearControl(adam, dt)
    for _ in range(HORIZON * steps_per_unit):
        noise = rng.normal(size=CHAINS) / np.sqrt(dt)

        def gradient(z, noise=noise):
            return TABLE_A.mean() * z + TABLE_B.mean() + np.sqrt(variance(z)) * noise

        g = gradient(x)
        drift = RATE * DECAY * x
        w_next = w + MEMORY * (variance(x) - w) * dt
        if adam:
            m = m + AVERAGING * (g - m) * dt
        x = x - (RATE / preconditioner(w, adam) * (m if adam else g) + drift) * dt
        w = w_next
        # The control's noise must be linear in y: frozen at its start as well.
        control.move(
            lambda y, noise=noise: (
                TABLE_A.mean() * y + TABLE_B.mean() + np.sqrt(variance(START)) * noise
            )
        )
    return controlled_mean(x, control.y, control.mean_y)


OPTIMIZERS = {
    "rmsprop": lambda ell: keras_svag.SVAGRMSprop(
        RATE, ell, rho=1 - MEMORY, epsilon=EPSILON, weight_decay=DECAY
    ),
    "adamw": lambda ell: keras_svag.SVAGAdamW(
        RATE,
        ell,
        beta_1=1 - AVERAGING,
        beta_2=1 - MEMORY,
        epsilon=EPSILON,
        weight_decay=DECAY,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_order_one(name):
    adam = name == "adamw"
    coarse, fine = sde_mean(64, adam), sde_mean(128, adam)
    truth = 2 * fine[0] - coarse[0]
    truth_error = np.hypot(2 * fine[1], coarse[1])
    runs = [svag_mean(OPTIMIZERS[name](float(ell)), ell, adam) for ell in ELLS]
    errors = np.array([mean for mean, _ in runs]) - truth
    spread = np.array([error for _, error in runs])
    # Log-log slope by least squares; its standard error from those of the errors, the common one
    # of the truth included.
    logs = np.log(ELLS) - np.mean(np.log(ELLS))
    weights = logs / np.sum(logs**2)
    slope = weights @ np.log(np.abs(errors))
    sensitivity = weights / errors
    common = sensitivity.sum() * truth_error
    slope_error = np.sqrt(np.sum((sensitivity * spread) ** 2) + common**2)
    print(f"{name}: SDE {truth:.5f} +- {truth_error:.5f}, slope {slope:.3f} +- {slope_error:.3f}")
    # Every error is resolved; the order is 1 within 3 standard errors, and is not 1/2.
    assert np.all(np.abs(errors) > 3 * np.hypot(spread, truth_error))
    assert abs(slope + 1) < 3 * slope_error
    assert slope + 2 * slope_error < -0.5
