"""The linear problem through the real train step, many independent copies side by side."""

import keras
import numpy as np

from keras_svag.optimizers import SVAG
from keras_svag.trainer import SVAGModel


@keras.saving.register_keras_serializable(package="keras_svag")
class LinearChains(keras.layers.Layer):
    """Independent scalar problems: weight c has the loss `a x_c^2 / 2 + b x_c`."""

    def __init__(self, count, start, **kwargs):
        super().__init__(**kwargs)
        self._arguments = {"count": count, "start": start}
        initializer = keras.initializers.Constant(start)
        self.x = self.add_weight(shape=(count,), initializer=initializer, name="x")

    def call(self, coefficients):
        """Returns losses of shape `(batch, chains)` from (a, b) of shape `(batch, chains, 2)`."""
        return coefficients[..., 0] * self.x**2 / 2 + coefficients[..., 1] * self.x

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), **self._arguments}


def simulate(problem, ell, start, steps, num_chains, seed):
    """Trains copies of a linear problem by SVAG; returns float64 x at the end, one per copy."""
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
        # Every chain draws its own examples: otherwise all would be one chain.
        model.train_on_batch(table[rng.integers(len(table), size=(2, num_chains))], target)
    return keras.ops.convert_to_numpy(layer.x).astype(np.float64)
