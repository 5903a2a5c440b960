"""Compiled training by steps whose noise has the second moment of SGD's steps."""

from keras_svag.engine.compiled import MAX_STEPS_PER_CALL, CompiledTraining
from keras_svag.optimizers.second_moment import SecondMomentNoise
from keras_svag.theory.gaussian_noise import random_signs


class CompiledSecondMomentTraining(CompiledTraining):
    """SVAG's train step with `(1 +- sqrt(ell - 1)) g1` in place of its amplified gradient."""

    def _make_loop(self):
        # Before the loop looks at the optimizer's variables.
        self._noise = SecondMomentNoise(self.model._svag, MAX_STEPS_PER_CALL)
        return super()._make_loop()

    def draw(self, seed, start, stop):
        """Draws the arguments of `advance` for steps `start` to `stop - 1`: a sign for each too."""
        return random_signs(seed, start, stop), *super().draw(seed, start, stop)

    def advance(self, signs, rows, augment_params=None, reset_metrics=True):
        """Takes a step per row of `2 B` example indices; returns `(steps_done, mean logs)`."""
        self._noise.assign(signs)
        return super().advance(rows, augment_params, reset_metrics)
