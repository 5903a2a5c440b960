"""Full-batch training with Gaussian noise of a mini-batch's covariance, on TensorFlow."""

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from keras_svag import _keras
from keras_svag._checks import finite_float, positive_int
from keras_svag.optimizers.tensorflow import densify
from keras_svag.resident.loop import loops_inside_xla
from keras_svag.resident.tensorflow import reset_metrics
from keras_svag.sde import gaussian_loss_weights
from keras_svag.trainer.structures import map_arrays
from keras_svag.trainer.tensorflow import batch_length


class GaussianNoiseLoop:
    """Full-batch training with Gaussian gradient noise: noisy gradient descent, Euler-Maruyama.

    Each step takes the full gradient with the examples weighted by `gaussian_loss_weights`, which
    has the covariance that a mini-batch of B examples drawn with replacement would have, times m,
    and moves by

    ```
    x -= eta / m * weight_decay * x
    x -= eta / m * (1 / n) * sum_i w_i grad L_i
    ```

    (gradient at the old x, as in Keras' SGD). m = 1 is noisy gradient descent; a large m simulates
    the SDE of SGD.

    The data stay on the device. The gradient is summed chunk by chunk, so that memory does not grow
    with the data beyond the data themselves. Where the network allows (see `loops_inside_xla`) many
    steps run in one compiled program, else one chunk. B, m, eta, the weight decay and the number of
    steps are data to the program: it is compiled once for all of them.

    What is trained is the loss that the model was compiled with, on its own terms: sample weights,
    several outputs and weight regularisers (which get no noise) are as in `fit`. The optimizer that
    the model was compiled with is not used; weight decay acts on every trained weight. Dropout
    draws its masks anew for each chunk and step; its share of the noise is then right up to a
    relative error of order 1/n + B/(m n).

    Refused, for there is no loss per example to weight: batch normalisation in training mode (the
    loss of one example then depends on the others in the chunk), losses that are not means over
    examples, activity regularisers.

    Args:
        model: a built, compiled `keras.Model`, `SVAGModel` or not.
        data: structure of arrays as `fit` takes it, such as `(x, y)`, of n examples each.
        chunk_size: examples in one forward pass; only speed and memory depend on it (and, by
            rounding, the last digits of the result). Defaults to `512`.
        steps_per_call: largest number of steps in one call of the program. Defaults to `64`.
        prepare: function of a chunk's inputs x that gives what the model is to see, such as
            normalised images. Defaults to `None`: x.
        inside_xla: whether the loops are inside the compiled program. Defaults to `None`: by
            `loops_inside_xla`.

    Raises:
        ValueError: if an argument is out of range, or the model has no loss per example.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> loop = GaussianNoiseLoop(model, (np.ones((32, 4)), np.ones((32, 1))))
    >>> normals = keras_svag.sde.standard_normals(32, seed=0, start=0, stop=10)
    >>> steps, logs = loop.run(normals, batch_size=8, learning_rate=0.1)
    >>> steps, sorted(logs)
    (10, ['loss'])
    """

    def __init__(
        self, model, data, chunk_size=512, steps_per_call=64, prepare=None, inside_xla=None
    ):
        self._model = model
        self._prepare = prepare
        self._num_examples = int(batch_length(data))
        self._chunk_size = min(positive_int("chunk_size", chunk_size), self._num_examples)
        self._steps_per_call = positive_int("steps_per_call", steps_per_call)
        # Otherwise the first call would trace twice: metrics make their variables when called.
        _keras.build_for_training(model, self._prepared(map_arrays(lambda a: a[:1], data)))
        _check_loss_per_example(model, self._prepared(_few_examples(data)))
        self._inside_xla = loops_inside_xla(model) if inside_xla is None else inside_xla
        size = self._chunk_size
        self._whole = self._num_examples // size * size
        self._chunks = map_arrays(
            lambda a: tf.reshape(a[: self._whole], (-1, size, *a.shape[1:])), data
        )
        self._rest = map_arrays(lambda a: tf.constant(a[self._whole :]), data)
        self.num_traces = 0
        self._program = tf.function(self._many_steps, jit_compile=True)
        self._add_chunk = tf.function(self._add_share, jit_compile=True)
        self._move = tf.function(self._take_step, jit_compile=True)

    def _prepared(self, data):
        """What the model sees of a part of the data."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return (x if self._prepare is None else self._prepare(x), y, sample_weight)

    def _many_steps(self, weights, rates, decay, count, fresh):
        self.num_traces += 1
        reset_metrics(self._model, fresh)

        def body(step, loss):
            loss, gradients = self._full_gradient(weights[step])
            self._take_step(gradients, rates[step], decay)
            return step + 1, loss

        def go_on(step, loss):
            return (step < count) & tf.math.is_finite(loss)

        step, _ = tf.while_loop(go_on, body, [tf.constant(0), tf.constant(0.0)])
        return step, self._model.get_metrics_result()

    def _take_step(self, gradients, rate, decay):
        for variable, gradient in zip(self._model.trainable_variables, gradients):
            _sgd_step(variable, gradient, rate, decay)

    def _one_by_one(self, weights, rates, decay, count, fresh):
        """What `_many_steps` does, with the loops in Python around compiled chunks."""
        if fresh:
            self._model.reset_metrics()
        step, loss = 0, 0.0
        while step < count and np.isfinite(loss):
            loss, gradients = self._sum_of_chunks(weights[step])
            self._move(gradients, rates[step], decay)
            step += 1
        return step, self._model.get_metrics_result()

    def _sum_of_chunks(self, weights):
        whole, rest = weights[: self._whole], weights[self._whole :]
        total = [tf.constant(0.0), self._zeros()]
        for i, part in enumerate(tf.reshape(whole, (-1, self._chunk_size))):
            total = self._add_chunk(total, map_arrays(lambda a, i=i: a[i], self._chunks), part)
        return self._add_chunk(total, self._rest, rest) if len(rest) else total

    def _add_share(self, total, chunk, weights):
        return _add(total, self._share_of_chunk(chunk, weights))

    def _zeros(self):
        return [tf.zeros(v.shape, _sum_dtype(v)) for v in self._model.trainable_variables]

    def _full_gradient(self, weights):
        """Loss (without weights) and gradient of the weighted loss, over all examples."""
        weights, rest = weights[: self._whole], weights[self._whole :]
        weights = tf.reshape(weights, (-1, self._chunk_size))

        def body(i, loss, gradients):
            chunk = map_arrays(lambda a: tf.gather(a, i), self._chunks)
            part = self._share_of_chunk(chunk, tf.gather(weights, i))
            return i + 1, *_add((loss, gradients), part)

        start = (tf.constant(0), tf.constant(0.0), self._zeros())
        _, *total = tf.while_loop(lambda i, *_: i < len(weights), body, start)
        # Not padded to a whole chunk: metrics would count what is not there.
        return _add(total, self._share_of_chunk(self._rest, rest)) if len(rest) else total

    def _share_of_chunk(self, chunk, weights):
        model, share = self._model, len(weights) / self._num_examples
        x, y, sample_weight = self._prepared(chunk)
        with tf.GradientTape() as tape:
            y_pred = _keras.call_for_training(model, x)
            weighted = _weight_gradients(y_pred, weights)
            loss = _keras.loss_for_training(model, x, y, weighted, sample_weight)
        _keras.track_loss(model, loss, sample_weight=len(weights))
        model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        gradients = _dense_gradients(tape, loss, model.trainable_variables)
        return tf.cast(loss, tf.float32) * share, [g * share for g in gradients]

    def run(self, normals, batch_size, learning_rate, noise_steps=1, weight_decay=0.0):
        """Takes one step for each row of standard normals.

        Args:
            normals: array of shape `(steps, n)`, as from `keras_svag.sde.standard_normals`.
            batch_size: B, the batch size of the SGD run that is modelled.
            learning_rate: eta of that run (not divided by m): a float, or one for each step.
            noise_steps: m, steps in the time of one SGD step, a number > 0. Defaults to `1`.
            weight_decay: of that run, decoupled. Defaults to `0.0`.

        Returns:
            A tuple `(steps, logs)`: the number of steps taken (fewer than asked for if the loss
            stopped being finite; the last one taken is the one at fault) and the loss and the
            compiled metrics, over all examples and without weights, averaged over the steps.

        Raises:
            ValueError: if an argument is out of range.
        """
        normals = self._checked_normals(normals)
        rates = _checked_rates(learning_rate, len(normals))
        decay = finite_float("weight_decay", weight_decay, "a number >= 0", 0.0)
        done = 0
        while True:
            part = slice(done, done + self._steps_per_call)
            weights = gaussian_loss_weights(normals[part], batch_size, noise_steps)
            count = len(weights)
            weights = self._padded(weights), self._padded(rates[part] / noise_steps)
            decay = tf.constant(decay, tf.float32)
            if self._inside_xla:
                fresh = tf.constant(done == 0)
                taken, logs = self._program(*weights, decay, tf.constant(count), fresh)
            else:
                taken, logs = self._one_by_one(*weights, decay, count, done == 0)
            done += int(taken)
            if int(taken) < count or done >= len(normals):
                return done, {name: float(value) for name, value in logs.items()}

    def _checked_normals(self, normals):
        normals = np.asarray(normals)
        if normals.ndim != 2 or normals.shape[1] != self._num_examples:
            raise ValueError(
                f"`normals` must have the shape (steps, {self._num_examples}), one number for "
                f"each example and step. Received: normals of shape {normals.shape}. Use "
                f"keras_svag.sde.standard_normals({self._num_examples}, seed, start, stop)."
            )
        return normals

    def _padded(self, rows):
        padding = [(0, self._steps_per_call - len(rows))] + [(0, 0)] * (rows.ndim - 1)
        return tf.constant(np.pad(rows, padding), tf.float32)


def _sgd_step(variable, gradient, rate, decay):
    """Keras' SGD without momentum, its learning rate and weight decay as tensors."""
    gradient, rate, decay = (tf.cast(t, variable.dtype) for t in (gradient, rate, decay))
    variable.assign(variable - variable * decay * rate)
    variable.assign_sub(gradient * rate)


def _add(first, second):
    return tree.map_structure(lambda a, b: a + b, list(first), list(second))


def _sum_dtype(variable):
    return keras.backend.result_type(variable.dtype, "float32")


def _dense_gradients(tape, loss, variables):
    gradients = tape.gradient(loss, variables)
    return [
        tf.zeros(v.shape, _sum_dtype(v)) if g is None else tf.cast(densify(g), _sum_dtype(v))
        for v, g in zip(variables, gradients)
    ]


def _weight_gradients(outputs, weights):
    """Returns `outputs` as they are, but multiplies what is propagated back by the weights.

    The gradient is that of the weighted loss; the loss itself is the unweighted one, which is what
    to log, and losses of any rank need no sample weights that fit.
    """

    @tf.custom_gradient
    def weighted(output):
        shape = [-1] + [1] * (len(output.shape) - 1)
        factor = tf.cast(tf.reshape(weights, shape), output.dtype)
        return tf.identity(output), lambda upstream: upstream * factor

    return map_arrays(weighted, outputs)


def _checked_rates(learning_rate, steps):
    rates = np.asarray(learning_rate, np.float64)
    if rates.shape not in ((), (steps,)) or not np.isfinite(rates).all() or (rates < 0).any():
        raise ValueError(
            f"`learning_rate` must be a number >= 0, or one for each of the {steps} steps. "
            f"Received: learning_rate={learning_rate!r}"
        )
    return np.broadcast_to(rates, (steps,))


# The checks look at few examples: what they look for does not hide in one of many.
_CHECKED_EXAMPLES = 4
# Coarse enough for bfloat16. What is refused is off by tens of per cent.
_CHECK_TOLERANCE = 0.05


def _few_examples(data):
    count = min(_CHECKED_EXAMPLES, int(batch_length(data)))
    rows = np.linspace(0, int(batch_length(data)) - 1, count).astype(int)
    return map_arrays(lambda a: tf.gather(a, rows), data)


def _check_loss_per_example(model, batch):
    """Refuses a model whose loss is not a mean over examples, each on its own."""
    count = int(batch_length(batch))
    _check_outputs_independent(model, keras.utils.unpack_x_y_sample_weight(batch)[0])
    try:
        for position in range(count):
            _check_one_weighted(model, batch, position, count)
    finally:
        model.reset_metrics()


def _check_outputs_independent(model, x):
    """What the model gives for one example must not depend on the others, even in training."""
    state = [(v, v.numpy()) for v in model.non_trainable_variables]
    outputs = []
    for batch in (x, map_arrays(lambda a: tf.repeat(a[:1], len(a), axis=0), x)):
        outputs.append(tree.flatten(_keras.call_for_training(model, batch)))
        # Moving averages, and seeds: of equal shape and seed, masks of dropout are the same.
        for variable, value in state:
            variable.assign(value)
    for mixed, alone in zip(*outputs):
        if _differ(mixed[0], alone[0]):
            raise ValueError(
                "`model` must give each example its output independently of the others in the "
                "batch; batch normalisation in training mode does not, so that there is no loss "
                f"per example to weight. Received: model={model.name!r}. Use another "
                "normalisation, such as group norm, or set `trainable = False` on these layers."
            )


def _check_one_weighted(model, batch, position, count):
    """With all the weight on one example, the gradient must be that of this example alone."""
    alone = map_arrays(lambda a: a[position : position + 1], batch)
    expected = _gradient_vector(model, alone, weights=[1.0])
    weights = np.zeros(count, np.float32)
    weights[position] = count
    if _differ(_gradient_vector(model, batch, weights), expected):
        raise ValueError(
            "The loss of `model` must be the mean over the examples of a loss of their outputs, "
            "to which weight regularisers may be added. Not so are losses with "
            "reduction='sum', losses over masked outputs, `add_loss` with something that depends "
            f"on data, and activity regularisers. Received: model={model.name!r}. Put such terms "
            "into the loss function, with the default reduction."
        )


def _gradient_vector(model, batch, weights):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    with tf.GradientTape() as tape:
        y_pred = _weight_gradients(model(x), tf.constant(weights))
        loss = _keras.loss_for_training(model, x, y, y_pred, sample_weight)
    gradients = _dense_gradients(tape, loss, model.trainable_variables)
    return tf.concat([tf.reshape(g, [-1]) for g in gradients], axis=0)


def _differ(actual, expected):
    actual, expected = (np.asarray(a, np.float64) for a in (actual, expected))
    return np.linalg.norm(actual - expected) > _CHECK_TOLERANCE * np.linalg.norm(expected)
