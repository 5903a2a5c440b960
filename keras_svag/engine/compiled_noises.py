"""Compiled training with other gradient noise: Gaussian, or with the second moment of SGD's."""

import keras
import numpy as np
from keras import ops

from keras_svag.distribution import is_distributed
from keras_svag.engine.compiled import MAX_STEPS_PER_CALL, CompiledTraining
from keras_svag.gaussian_noise import GaussianNoiseLoop
from keras_svag.optimizers.amplification import dense_gradient
from keras_svag.theory import standard_normals
from keras_svag.theory.gaussian_noise import random_signs

STEPS_PER_SEGMENT = 64


class CompiledGaussianTraining(CompiledTraining):
    """Full-batch steps with Gaussian noise that has the covariance of a batch of B.

    `ell` is the number of noise steps per effective step. The logs have neither N nor G, since the
    gradient is the full one.
    """

    def _check_strategy(self):
        if is_distributed():
            raise ValueError(
                "`strategy` must be 'none' for full-batch steps with Gaussian noise. "
                "Received: a multi-device strategy. Use --strategy=none."
            )

    def _make_loop(self):
        # Data stay on the host: the loop chunks them before it moves them to the device.
        recipe = self.recipe
        return GaussianNoiseLoop(
            self.model, recipe.train_data, self._eval_batch_size, prepare=recipe.inputs
        )

    @property
    def steps_per_segment(self):
        """Largest number of steps per `advance`, each over the whole training set."""
        return STEPS_PER_SEGMENT if self._loop.fuses_steps else 1

    def draw(self, seed, start, stop):
        """Draws standard normal numbers, one per step and example."""
        return (standard_normals(self.recipe.num_train, seed, start, stop),)

    def first_call(self, normals):
        """Returns what `advance` calls first, to be compiled ahead of time (JAX)."""
        return self._loop.first_call(normals, self._batch_size)

    @property
    def examples_per_pass(self):
        """Number of examples in a chunk, and in the rest after the last one."""
        return self._loop.examples_per_pass

    def advance(self, normals, reset_metrics=True):
        """Takes a step per row of n normal numbers; returns `(steps_done, mean logs)`."""
        # The loop bypasses the optimizer, whose counter gives the position in the schedule.
        optimizer = self.model._svag
        start, noise_steps = int(optimizer.iterations), optimizer.ell
        steps, logs = self._loop.run(
            normals,
            self._batch_size,
            self.learning_rates(noise_steps, start, start + len(normals)),
            noise_steps,
            self.recipe.facts.weight_decay,
            reset_metrics,
        )
        optimizer.iterations.assign(start + steps)
        return steps, logs


class SecondMomentNoise:
    """Makes an SVAG optimizer step by `(1 +- sqrt(ell - 1)) g1`, with a random sign for each step.

    Given the weights, the mean of such a gradient is grad L and its second moment `ell E g1 g1^T`.
    In the limit of many short steps the noise therefore has the second moment of SGD's steps,
    `Sigma + grad L grad L^T`, where SVAG has their covariance Sigma. The second half of a batch
    only serves to measure N and G.
    """

    def __init__(self, optimizer, max_steps):
        self._optimizer = optimizer
        # A variable, so that programs of any backend see what the host has drawn.
        self._signs = keras.Variable(
            np.ones(max_steps, np.float32),
            name="signs",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
        )
        optimizer._track_variable(self._signs)
        optimizer.combine = self.combine

    def assign(self, signs):
        """Sets the signs of the next steps, one each."""
        table = np.ones(self._signs.shape[0], np.float32)
        table[(int(self._optimizer.iterations) + np.arange(len(signs))) % len(table)] = signs
        self._signs.assign(table)

    def combine(self, first, second):
        """Returns the list of `(1 +- sqrt(ell - 1)) g1`, in float32 or better."""
        index = ops.mod(self._optimizer.iterations, self._signs.shape[0])
        ell = self._optimizer._amplified.tensors()["ell"]
        sign = ops.cast(ops.take(ops.cast(self._signs, "float32"), index), ell.dtype)
        weight = 1.0 + sign * ops.sqrt(ell - 1.0)
        return [
            None if g1 is None or g2 is None else _times(weight, dense_gradient(g1))
            for g1, g2 in zip(first, second)
        ]


def _times(weight, gradient):
    return gradient * ops.cast(weight, gradient.dtype)


class CompiledSecondMomentTraining(CompiledTraining):
    """SVAG's train step with `(1 +- sqrt(ell - 1)) g1` in place of its amplified gradient."""

    def _make_loop(self):
        # Before the loop looks at the optimizer's variables.
        self._noise = SecondMomentNoise(self.model._svag, MAX_STEPS_PER_CALL)
        return super()._make_loop()

    def draw(self, seed, start, stop):
        """Draws the arguments of `advance` for steps `start` to `stop - 1`: a sign for each too."""
        return random_signs(seed, start, stop), *super().draw(seed, start, stop)

    def first_call(self, signs, rows, augment_params=None):
        """Returns what `advance` calls first, to be compiled ahead of time (JAX)."""
        return super().first_call(rows, augment_params)

    def advance(self, signs, rows, augment_params=None, reset_metrics=True):
        """Takes a step per row of `2 B` example indices; returns `(steps_done, mean logs)`."""
        self._noise.assign(signs)
        return super().advance(rows, augment_params, reset_metrics)
