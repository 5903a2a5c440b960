"""Losses L_i(x) = <a_i, x> / |x|, which do not change with |x|, and chains of SVAG on them."""

import numpy as np

from keras_svag.theory import svag_coefficients


class ScaleInvariantToy:
    """A table of losses `<a_i, x>/|x| + spring |x|^2 / 2`; the spring breaks scale invariance."""

    def __init__(self, dimension=6, examples=40, spring=0.0, seed=0):
        rng = np.random.default_rng(seed)
        self.table = rng.normal(size=(examples, dimension))
        self.table[:, 0] += 1.0
        self.spring = spring

    def gradients(self, x, rows):
        """Gradient of the mean loss of the examples `rows` (chains, B) at `x` (chains, d)."""
        radius = np.linalg.norm(x, axis=1, keepdims=True)
        a = self.table[rows].mean(axis=1)
        u = x / radius
        return (a - np.sum(a * u, axis=1, keepdims=True) * u) / radius + self.spring * x

    def run(self, x, steps, record_every, eta, decay, ell, batch_size=2, seed=1):
        """SVAG with decay before the step; the columns that a run records, for all chains.

        Returns:
            Arrays R `(records + 1, chains)`, and N, G, <x, grad L> `(records, chains)`.
        """
        rng = np.random.default_rng(seed)
        r1, r2 = svag_coefficients(ell)
        everything = np.broadcast_to(np.arange(len(self.table)), (len(x), len(self.table)))
        norms, sums, rows = [np.sum(x**2, axis=1)], np.zeros((3, len(x))), []
        for step in range(1, steps + 1):
            draws = rng.integers(len(self.table), size=(2, len(x), batch_size))
            g1, g2 = (self.gradients(x, draw) for draw in draws)
            full = self.gradients(x, everything)
            sums += [
                np.sum((g1 - g2) ** 2, axis=1) / 2,
                np.sum(g1 * g2, axis=1),
                np.sum(x * full, axis=1),
            ]
            h = eta / ell
            x = (1 - h * decay) * x - h * (r1 * g1 + r2 * g2)
            if step % record_every == 0:
                norms.append(np.sum(x**2, axis=1))
                rows.append(sums / record_every)
                sums = np.zeros((3, len(x)))
        noise, signals, radial = np.array(rows).transpose(1, 0, 2)
        return np.array(norms), noise, signals, radial


ETA, DECAY = 0.3, 0.2


def simulate(ell, spring=0.0, chains=48, start=None, time=60.0, records=40, batch_size=2):
    """Chains of the toy over some continuous time, from near equilibrium or from `start`.

    The time constant of R near equilibrium is 1 / (4 lambda) = 1.25.
    """
    toy = ScaleInvariantToy(spring=spring)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(chains, 6))
    x *= (start or 1.2) / np.linalg.norm(x, axis=1, keepdims=True)
    if start is None:
        warm = round(20 * ell / ETA)
        x = continue_from(toy, x, warm, ell, batch_size)
    every = round(time * ell / ETA / records)
    return toy.run(x, every * records, every, ETA, DECAY, ell, batch_size), every


def continue_from(toy, x, steps, ell, batch_size):
    rng = np.random.default_rng(99)
    r1, r2 = svag_coefficients(ell)
    for _ in range(steps):
        draws = rng.integers(len(toy.table), size=(2, len(x), batch_size))
        g1, g2 = (toy.gradients(x, draw) for draw in draws)
        x = (1 - ETA / ell * DECAY) * x - ETA / ell * (r1 * g1 + r2 * g2)
    return x


def records_of(columns, every, chain, learning_rate=ETA):
    norms, noise, signals, _ = columns
    return [
        {
            "step": i * every,
            "learning_rate": learning_rate,
            "weight_norm": norms[i, chain],
            "gradient_noise": noise[i - 1, chain] if i else None,
            "gradient_signal": signals[i - 1, chain] if i else None,
        }
        for i in range(len(norms))
    ]
