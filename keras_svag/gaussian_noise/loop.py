"""Full-batch training with Gaussian gradient noise."""

import typing

import keras
import numpy as np
from keras import ops

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag._checks import finite_float, positive_int
from keras_svag.device_loop.loop import pad_rows
from keras_svag.gaussian_noise.checks import check_loss_per_example
from keras_svag.gaussian_noise.weighted import weighted_gradients
from keras_svag.theory import gaussian_loss_weights
from keras_svag.trainer.structures import first_leaf, map_arrays
from keras_svag.xla_policy import should_fuse_steps

BackendPrograms: typing.Any = backend_module(__package__).BackendPrograms


class GaussianNoiseLoop(BackendPrograms):
    """Full-batch training with Gaussian gradient noise: noisy gradient descent, Euler-Maruyama.

    Each step takes the gradient of the loss weighted per example by `gaussian_loss_weights`, whose
    noise has m times the covariance of a mini-batch of B examples sampled with replacement:

    ```
    x -= eta / m * weight_decay * x
    x -= eta / m * (1 / n) * sum_i w_i grad L_i      (gradient at the old x, as in Keras' SGD)
    ```

    m = 1 is noisy gradient descent; a large m simulates the SDE of SGD. The gradient is summed over
    chunks of the data, which stay on the device. Where it is fast (see `should_fuse_steps`) one
    compiled program takes many steps, else one chunk; it is compiled once for all B, m, eta and
    weight decays. The loss is that of `fit` with its sample weights and regularizers (which get no
    noise); the optimizer of the model is not used. Dropout masks are sampled for each chunk and
    step, so their noise has a relative error of order 1/n + B/(m n). The model must have a loss per
    example: batch norm in training mode, losses that are not means over examples, and activity
    regularizers raise a `ValueError`.
    """

    def __init__(
        self, model, data, chunk_size=512, steps_per_call=64, prepare=None, fuse_steps=None
    ):
        self._model = model
        self._prepare = prepare
        self._num_examples = len(first_leaf(data))
        self._chunk_size = min(positive_int("chunk_size", chunk_size), self._num_examples)
        self._steps_per_call = positive_int("steps_per_call", steps_per_call)
        # Otherwise the first call would trace twice, because metrics create their variables then.
        _keras.build_for_training(model, self._prepare_chunk(map_arrays(lambda a: a[:1], data)))
        check_loss_per_example(model, self._prepare_chunk, data)
        self._fuse_steps = should_fuse_steps(model) if fuse_steps is None else fuse_steps
        # The examples after these are a last chunk of another size.
        self._num_chunked = self._num_examples // self._chunk_size * self._chunk_size
        self.num_traces = 0
        self._compile(
            map_arrays(self._split_in_chunks, data),
            map_arrays(lambda a: a[self._num_chunked :], data),
        )

    @property
    def fuses_steps(self):
        """True if one call of the program takes several steps."""
        return self._fuse_steps

    @property
    def examples_per_pass(self):
        """Number of examples in a chunk, and in the rest after the last one."""
        return self._chunk_size + self._num_examples - self._num_chunked

    def _split_in_chunks(self, array):
        shape = (-1, self._chunk_size, *array.shape[1:])
        return np.reshape(array[: self._num_chunked], shape)

    def _prepare_chunk(self, data):
        """Returns `(x, y, sample_weight)` of a part of the data, as the model sees it."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return (x if self._prepare is None else self._prepare(x), y, sample_weight)

    def _take_step(self, gradients, rate, decay):
        """Updates the weights as Keras' SGD does, with hyperparameters that are tensors."""
        for variable, gradient in zip(self._model.trainable_variables, gradients):
            g, r, d = (ops.cast(tensor, variable.dtype) for tensor in (gradient, rate, decay))
            variable.assign(variable - variable * d * r)
            variable.assign_sub(g * r)

    def _zeros(self):
        """Returns the initial values of the sums of loss and gradient."""
        return [
            ops.zeros((), "float32"),
            [
                ops.zeros(v.shape, keras.backend.result_type(v.dtype, "float32"))
                for v in self._model.trainable_variables
            ],
        ]

    def _add_chunk(self, total, chunk, weights):
        """Adds the unweighted loss and the weighted gradient of a chunk to the totals."""
        x, y, sample_weight = self._prepare_chunk(chunk)
        count = weights.shape[0]
        loss, y_pred, gradients = weighted_gradients(self._model, x, y, sample_weight, weights)
        _keras.track_loss(self._model, loss, sample_weight=count)
        self._model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        fraction, (total_loss, total_gradients) = count / self._num_examples, total
        return [
            total_loss + ops.cast(loss, "float32") * fraction,
            [t + ops.cast(g, t.dtype) * fraction for t, g in zip(total_gradients, gradients)],
        ]

    def _call_chunks(self, weights, rates, decay, count, reset_metrics):
        """Takes steps like `_call`, but with Python loops around compiled chunks."""
        if reset_metrics:
            self._model.reset_metrics()
        step, loss = 0, 0.0
        while step < count and np.isfinite(loss):
            loss, gradients = self._sum_of_chunks(weights[step])
            self._compiled_take_step(gradients, *map(ops.convert_to_tensor, (rates[step], decay)))
            step += 1
        return step, self._model.get_metrics_result()

    def _sum_of_chunks(self, weights):
        # The last chunk is not padded, because metrics would count the padding.
        parts = np.split(weights, range(self._chunk_size, len(weights), self._chunk_size))
        total = self._zeros()
        for i, part in enumerate(parts):
            is_rest = i * self._chunk_size >= self._num_chunked
            chunk = self._rest if is_rest else map_arrays(lambda a, i=i: a[i], self._chunks)
            total = self._compiled_add_chunk(total, chunk, ops.convert_to_tensor(part))
        return total

    def run(
        self,
        normals,
        batch_size,
        learning_rate,
        noise_steps=1,
        weight_decay=0.0,
        reset_metrics=True,
    ):
        """Takes a step for each row of normals; returns the number of steps and the metrics."""
        normals = np.asarray(normals)
        if normals.ndim != 2 or normals.shape[1] != self._num_examples:
            raise ValueError(
                f"`normals` must have shape (steps, {self._num_examples}), one number for each "
                f"example and step. Received: normals of shape {normals.shape}. Use "
                f"keras_svag.theory.standard_normals({self._num_examples}, seed, start, stop)."
            )
        rates = _checked_rates(learning_rate, len(normals))
        decay = np.float32(finite_float("weight_decay", weight_decay, "a number >= 0", 0.0))
        take_steps = self._call if self._fuse_steps else self._call_chunks
        done = 0
        while True:
            part = slice(done, done + self._steps_per_call)
            weights = gaussian_loss_weights(normals[part], batch_size, noise_steps)
            count = len(weights)
            rows = [
                pad_rows(array, self._steps_per_call).astype(np.float32)
                for array in (weights, rates[part] / noise_steps)
            ]
            steps_done, logs = take_steps(*rows, decay, count, reset_metrics and done == 0)
            done += int(steps_done)
            if int(steps_done) < count or done >= len(normals):
                return done, {name: float(value) for name, value in logs.items()}


def _checked_rates(learning_rate, steps):
    rates = np.asarray(learning_rate, np.float64)
    if rates.shape not in ((), (steps,)) or not np.isfinite(rates).all() or (rates < 0).any():
        raise ValueError(
            f"`learning_rate` must be a number >= 0, or one for each of the {steps} steps. "
            f"Received: learning_rate={learning_rate!r}."
        )
    return np.broadcast_to(rates, (steps,))
