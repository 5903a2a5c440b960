"""The compiled program for full-batch steps with Gaussian noise."""

from keras_svag.distribution import is_distributed
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.gaussian_noise import GaussianNoiseLoop
from keras_svag.theory import standard_normals

STEPS_PER_SEGMENT = 64


class CompiledGaussianTraining(CompiledTraining):
    """The same for full-batch steps with Gaussian noise of the covariance of a batch of B.

    In the place of `ell` stands m, the number of such steps in one effective step. There are no
    N and G in the logs: the gradient is the full one.
    """

    def _check_strategy(self):
        if is_distributed():
            raise ValueError(
                "`strategy` must be 'none' for full-batch steps with Gaussian noise, which run on "
                "one device. Received: a strategy of several. Use --strategy=none."
            )

    def _make_loop(self):
        # Cut into chunks before it goes to the device.
        recipe = self.recipe
        return GaussianNoiseLoop(self.model, recipe.train_data, self._piece, prepare=recipe.inputs)

    @property
    def steps_per_segment(self):
        """See `CompiledTraining`; here a step reads the whole training set."""
        return STEPS_PER_SEGMENT if self._loop.fuses_steps else 1

    def draw(self, seed, start, stop):
        """Standard normal numbers, one for each step and example."""
        return (standard_normals(self.recipe.num_train, seed, start, stop),)

    def advance(self, rows, reset_metrics=True):
        """Takes one step for each row of standard normal numbers.

        Args:
            rows: array of shape `(steps, n)`.
            reset_metrics: as in `CompiledTraining`.

        Returns:
            A tuple `(steps, logs)`, as in `CompiledTraining`, of loss and accuracy.
        """
        # The loop leaves the optimizer alone; its counter says where the schedule is.
        optimizer = self.model._svag
        start, noise_steps = int(optimizer.iterations), optimizer.ell
        steps, logs = self._loop.run(
            rows,
            self._batch_size,
            self.learning_rates(noise_steps, start, start + len(rows)),
            noise_steps,
            self.recipe.facts.weight_decay,
            reset_metrics,
        )
        optimizer.iterations.assign(start + steps)
        return steps, logs
