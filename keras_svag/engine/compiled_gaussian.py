"""Compiled training by full-batch steps with Gaussian noise."""

from keras_svag.distribution import is_distributed
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.gaussian_noise import GaussianNoiseLoop
from keras_svag.theory import standard_normals

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
