"""Single compiled steps, and a hand-written loop to compare with ours."""

import numpy as np
import tensorflow as tf

from benchmarks.sides import networks
from benchmarks.timing import Side, timed
from keras_svag import svag_coefficients
from keras_svag.device_loop import DeviceTrainLoop
from keras_svag.models.normalization import EPSILON, GROUPS
from keras_svag.xla_policy.tensorflow import JIT_ALL, compiled


def step_side(name, model, batch, rounds=1, jit_scope=JIT_ALL):
    """Returns the `Side` of a model's compiled train step, on one batch on the device."""
    batch = tuple(tf.constant(array) for array in batch)
    step = compiled(model.train_step, jit_scope)

    def run(count):
        for _ in range(count * rounds):
            logs = step(batch)
        logs["loss"].numpy()  # waits for the device

    return Side(name, timed(run), rounds)


class BareLoop:
    """SVAG steps on the default MLP as one hand-written XLA program.

    No metrics, no noise, no optimizer object: the loop carries the weights alone, and takes two
    gradients, `r1 g1 + r2 g2`, weight decay and the step. The last kernel is not trained.
    """

    def __init__(self, weights, data, learning_rate, ell, weight_decay):
        *hidden, self._last = [tf.constant(w) for w in weights]
        self.weights = hidden
        self._x, self._y = (tf.constant(array) for array in data)
        self._r1, self._r2 = svag_coefficients(ell)
        self._rate, self._decay = learning_rate / ell, weight_decay
        self._program = tf.function(self._many_steps, autograph=False, jit_compile=True)

    def run(self, rows):
        """Takes one step per row of 2B example indices."""
        self.weights = self._program(self.weights, tf.constant(rows, tf.int32))
        self.weights[0].numpy()

    def _many_steps(self, weights, rows):
        steps = rows.shape[0]

        def step(i, weights):
            row = rows[i]
            g1 = self._gradients(weights, row[0::2])
            g2 = self._gradients(weights, row[1::2])
            return i + 1, [
                w - self._rate * (self._decay * w + self._r1 * a + self._r2 * b)
                for w, a, b in zip(weights, g1, g2)
            ]

        return tf.while_loop(lambda i, _: i < steps, step, (tf.constant(0), weights))[1]

    def _gradients(self, weights, row):
        x, y = tf.gather(self._x, row), tf.gather(self._y, row)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            for weight in weights:
                x = tf.nn.relu(_group_norm(x @ weight))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, x @ self._last)
            loss = tf.reduce_mean(losses)
        return tape.gradient(loss, weights)


def _group_norm(x):
    grouped = tf.reshape(x, (x.shape[0], GROUPS, -1))
    mean, variance = tf.nn.moments(grouped, axes=[-1], keepdims=True)
    return tf.reshape((grouped - mean) * tf.math.rsqrt(variance + EPSILON), x.shape)


def bare_loop_and_ours(batch_size, steps, count=1437):
    """Returns both sides of b, from the same weights: `(model, loop, bare, rows)`."""
    data = networks.examples("mlp", count)
    rows = networks.row_table(count, steps, batch_size)
    model = networks.svag("mlp")
    bare = BareLoop(
        model.get_weights(), data, networks.LEARNING_RATE, networks.ELL, networks.WEIGHT_DECAY
    )
    return model, DeviceTrainLoop(model, data, steps), bare, rows


def gradient_side(name, model, batch):
    """Returns the `Side` of a separate measurement of N and G on one batch of B examples."""
    x, y = (tf.constant(array) for array in batch)
    sums = [tf.Variable(tf.zeros_like(w)) for w in model.trainable_weights]
    squares = tf.Variable(0.0)

    @tf.function(autograph=False, jit_compile=True)
    def measure():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        gradients = tape.gradient(loss, model.trainable_weights)
        # N and G follow from the norm of the mean and the mean of the norms.
        for total, gradient in zip(sums, gradients):
            total.assign_add(gradient)
        squares.assign_add(tf.add_n([tf.reduce_sum(g * g) for g in gradients]))

    def run(count):
        for _ in range(count):
            measure()
        np.asarray(squares)

    return Side(name, timed(run))
