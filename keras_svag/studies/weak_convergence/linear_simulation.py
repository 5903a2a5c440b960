"""The linear problem through the real train step, many independent copies side by side."""

import keras
import numpy as np

from keras_svag.optimizers import SVAG
from keras_svag.trainer import SVAGModel


@keras.saving.register_keras_serializable(package="keras_svag")
class LinearChains(keras.layers.Layer):
    """Independent scalar problems: weight c has the loss `a x_c^2 / 2 + b x_c`.

    Args:
        count: number of chains.
        start: value of every weight at the start.
        **kwargs: As for `keras.layers.Layer`.
    """

    def __init__(self, count, start, **kwargs):
        super().__init__(**kwargs)
        self._start = {"count": count, "start": start}
        initializer = keras.initializers.Constant(start)
        self.x = self.add_weight(shape=(count,), initializer=initializer, name="x")

    def call(self, coefficients):
        """Losses of shape `(batch, chains)`, from (a, b) of shape `(batch, chains, 2)`."""
        return coefficients[..., 0] * self.x**2 / 2 + coefficients[..., 1] * self.x

    def get_config(self):
        """Returns the arguments of the constructor, for serialization."""
        return {**super().get_config(), **self._start}


def simulate(problem, ell, start, steps, num_chains, seed):
    """Runs SVAG on copies of a linear problem by `SVAGModel`'s train step.

    The chains are one weight vector, each with its own example indices: otherwise they would be
    one chain.

    Args:
        problem: a `keras_svag.theory.LinearProblem` of batch size 1 without momentum.
        ell: amplification.
        start: x at the start.
        steps: number of SVAG steps.
        num_chains: number of copies.
        seed: int, decides the examples.

    Returns:
        A float64 array of shape `(num_chains,)`: x at the end.
    """
    inputs = keras.Input((num_chains, 2))
    layer = LinearChains(num_chains, start)
    model = SVAGModel(inputs, layer(inputs))
    model.compile(
        SVAG(problem.learning_rate, ell=ell, weight_decay=problem.weight_decay),
        # A sum over chains: each has the gradient of its own loss.
        loss=lambda y, losses: keras.ops.sum(losses, axis=-1),
        jit_compile=True,
    )
    table = np.stack([problem.a, problem.b], axis=-1).astype(np.float32)
    rng = np.random.default_rng([seed, round(ell * 2**16)])
    target = np.zeros((2, 1), np.float32)
    for _ in range(steps):
        model.train_on_batch(table[rng.integers(len(table), size=(2, num_chains))], target)
    return keras.ops.convert_to_numpy(layer.x).astype(np.float64)
