"""`GaussianNoiseLoop`, but for what only a backend can say."""

import typing

import keras
import numpy as np
from keras import ops

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag._checks import finite_float, positive_int
from keras_svag.device_loop.loop import padded
from keras_svag.gaussian_noise.checks import check_loss_per_example
from keras_svag.gaussian_noise.weighted import weighted_gradients
from keras_svag.theory import gaussian_loss_weights
from keras_svag.trainer.structures import first_leaf, map_arrays
from keras_svag.xla_policy import should_fuse_steps

BackendPrograms: typing.Any = backend_module(__package__).BackendPrograms


class GaussianNoiseLoop(BackendPrograms):
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
    with the data beyond the data themselves. Where the network allows (see `should_fuse_steps`) many
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
        fuse_steps: whether the loops are inside the compiled program. Defaults to `None`: by
            `should_fuse_steps`.

    Raises:
        ValueError: if an argument is out of range, or the model has no loss per example.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(loss="mse")
    >>> loop = GaussianNoiseLoop(model, (np.ones((32, 4)), np.ones((32, 1))))
    >>> normals = keras_svag.theory.standard_normals(32, seed=0, start=0, stop=10)
    >>> steps, logs = loop.run(normals, batch_size=8, learning_rate=0.1)
    >>> steps, sorted(logs)
    (10, ['loss'])
    """

    def __init__(
        self, model, data, chunk_size=512, steps_per_call=64, prepare=None, fuse_steps=None
    ):
        self._model = model
        self._prepare = prepare
        self._num_examples = len(first_leaf(data))
        self._chunk_size = min(positive_int("chunk_size", chunk_size), self._num_examples)
        self._steps_per_call = positive_int("steps_per_call", steps_per_call)
        # Otherwise the first call would trace twice: metrics make their variables when called.
        _keras.build_for_training(model, self._prepared(map_arrays(lambda a: a[:1], data)))
        check_loss_per_example(model, self._prepared, data)
        self._fuse_steps = should_fuse_steps(model) if fuse_steps is None else fuse_steps
        self._whole = self._num_examples // self._chunk_size * self._chunk_size
        self.num_traces = 0
        self._compile(
            map_arrays(lambda a: np.reshape(a[: self._whole], self._shape_of_chunks(a)), data),
            map_arrays(lambda a: a[self._whole :], data),
        )

    @property
    def fuses_steps(self):
        """Whether the loops are inside the compiled program."""
        return self._fuse_steps

    def _shape_of_chunks(self, array):
        return (-1, self._chunk_size, *array.shape[1:])

    def _prepared(self, data):
        """What the model sees of a part of the data."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        return (x if self._prepare is None else self._prepare(x), y, sample_weight)

    def _take_step(self, gradients, rate, decay):
        for variable, gradient in zip(self._model.trainable_variables, gradients):
            _sgd_step(variable, gradient, rate, decay)

    def _zeros(self):
        """Loss and gradient of no examples."""
        shapes = [(v.shape, _sum_dtype(v)) for v in self._model.trainable_variables]
        return [ops.zeros((), "float32"), [ops.zeros(*shape) for shape in shapes]]

    def _add_share(self, total, chunk, weights):
        """Adds a chunk's share of the loss (without weights) and of the weighted gradient."""
        x, y, sample_weight = self._prepared(chunk)
        count = weights.shape[0]
        loss, y_pred, gradients = weighted_gradients(self._model, x, y, sample_weight, weights)
        _keras.track_loss(self._model, loss, sample_weight=count)
        self._model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        share, (total_loss, total_gradients) = count / self._num_examples, total
        return [
            total_loss + ops.cast(loss, "float32") * share,
            [t + ops.cast(g, t.dtype) * share for t, g in zip(total_gradients, gradients)],
        ]

    def _one_by_one(self, weights, rates, decay, count, reset_metrics):
        """What the one program does, with the loops in Python around compiled chunks."""
        if reset_metrics:
            self._model.reset_metrics()
        step, loss = 0, 0.0
        while step < count and np.isfinite(loss):
            loss, gradients = self._sum_of_chunks(weights[step])
            self._move(gradients, *map(ops.convert_to_tensor, (rates[step], decay)))
            step += 1
        return step, self._model.get_metrics_result()

    def _sum_of_chunks(self, weights):
        # Not padded to a whole chunk: metrics would count what is not there.
        parts = np.split(weights, range(self._chunk_size, len(weights), self._chunk_size))
        total = self._zeros()
        for i, part in enumerate(parts):
            whole = (i + 1) * self._chunk_size <= self._whole
            chunk = map_arrays(lambda a, i=i: a[i], self._chunks) if whole else self._rest
            total = self._add_chunk(total, chunk, ops.convert_to_tensor(part))
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
        """Takes one step for each row of standard normals.

        Args:
            normals: array of shape `(steps, n)`, as from `keras_svag.theory.standard_normals`.
            batch_size: B, the batch size of the SGD run that is modelled.
            learning_rate: eta of that run (not divided by m): a float, or one for each step.
            noise_steps: m, steps in the time of one SGD step, a number > 0. Defaults to `1`.
            weight_decay: of that run, decoupled. Defaults to `0.0`.
            reset_metrics: whether the metrics begin here; otherwise they go on from where they are.
                Defaults to `True`.

        Returns:
            A tuple `(steps, logs)`: the number of steps taken (fewer than asked for if the loss
            stopped being finite; the last one taken is the one at fault) and the loss and the
            compiled metrics, over all examples and without weights, averaged over the steps.

        Raises:
            ValueError: if an argument is out of range.
        """
        normals = self._checked_normals(normals)
        rates = _checked_rates(learning_rate, len(normals))
        decay = np.float32(finite_float("weight_decay", weight_decay, "a number >= 0", 0.0))
        take_steps = self._call if self._fuse_steps else self._one_by_one
        done = 0
        while True:
            part = slice(done, done + self._steps_per_call)
            weights = gaussian_loss_weights(normals[part], batch_size, noise_steps)
            count = len(weights)
            rows = [
                padded(array, self._steps_per_call).astype(np.float32)
                for array in (weights, rates[part] / noise_steps)
            ]
            steps_done, logs = take_steps(*rows, decay, count, reset_metrics and done == 0)
            done += int(steps_done)
            if int(steps_done) < count or done >= len(normals):
                return done, {name: float(value) for name, value in logs.items()}

    def _checked_normals(self, normals):
        normals = np.asarray(normals)
        if normals.ndim != 2 or normals.shape[1] != self._num_examples:
            raise ValueError(
                f"`normals` must have the shape (steps, {self._num_examples}), one number for "
                f"each example and step. Received: normals of shape {normals.shape}. Use "
                f"keras_svag.theory.standard_normals({self._num_examples}, seed, start, stop)."
            )
        return normals


def _sgd_step(variable, gradient, rate, decay):
    """Keras' SGD without momentum, its learning rate and weight decay as tensors."""
    gradient, rate, decay = (ops.cast(t, variable.dtype) for t in (gradient, rate, decay))
    variable.assign(variable - variable * decay * rate)
    variable.assign_sub(gradient * rate)


def _sum_dtype(variable):
    return keras.backend.result_type(variable.dtype, "float32")


def _checked_rates(learning_rate, steps):
    rates = np.asarray(learning_rate, np.float64)
    if rates.shape not in ((), (steps,)) or not np.isfinite(rates).all() or (rates < 0).any():
        raise ValueError(
            f"`learning_rate` must be a number >= 0, or one for each of the {steps} steps. "
            f"Received: learning_rate={learning_rate!r}"
        )
    return np.broadcast_to(rates, (steps,))
