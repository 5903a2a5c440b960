"""Example indices of each step, a pure function of seed and step.

The batches of an epoch are one index array from NumPy's `Philox(key=[seed, epoch])`, a row per
step, so any step's batch is available on any backend without replaying those before it.
"""

import functools
import math
import warnings

import numpy as np

from keras_svag._checks import one_of, positive_int
from keras_svag.theory.sampling_modes import (
    FIXED_ORDER,
    SAMPLING_MODES,
    SHUFFLED_EPOCHS,
    TWO_SHUFFLED_STREAMS,
    WITH_REPLACEMENT,
    WITHOUT_REPLACEMENT,
)

_WARNINGS = {
    SHUFFLED_EPOCHS: (
        "sampling='shuffled_epochs' cuts one shuffled epoch into batches: the gradient noise "
        "cancels over an epoch (plain SGD keeps none of it, SVAG(1) half), so there is no SDE to "
        "compare with, and the reference run is SVAG(1), not SGD. gradient_signal is too low by "
        "B/n times gradient_noise. Use sampling='with_replacement' for a verdict."
    ),
    FIXED_ORDER: (
        "sampling='fixed_order' reads the examples in the same order every epoch: without "
        "randomness, gradient_noise and gradient_signal estimate nothing and there is no SDE. "
        "Use sampling='with_replacement' for a verdict."
    ),
}


class Sampler:
    """Draws the example indices of the steps of an SVAG run.

    Even columns are the first half of a step's batch, odd columns the second, as in `SVAGModel`.

    Args:
        num_examples: int, size n of the data set.
        batch_size: int, B, size of one half; a step reads `2 B` examples.
        mode: `"with_replacement"`: each example independently, as the theory assumes.
            `"without_replacement"`: no example twice in a half, halves and steps independent.
            `"shuffled_epochs"`: a shuffled epoch cut into batches, as plain `fit` does (warns: no
            SDE). `"fixed_order"`: always the same order (warns). Defaults to `"with_replacement"`.
        seed: int >= 0. Defaults to `0`.

    Raises:
        ValueError: if an argument is out of range, or `mode` is `"two_shuffled_streams"`, where the
            amplified noise cancels too and the limit of large ell is gradient flow.

    Example:

    >>> sampler = Sampler(num_examples=100, batch_size=2, seed=1)
    >>> sampler.rows(5, 8).shape
    (3, 4)
    >>> bool((sampler.rows(0, 8)[5:] == sampler.rows(5, 8)).all())
    True
    """

    def __init__(
        self, num_examples: int, batch_size: int, mode: str = WITH_REPLACEMENT, seed: int = 0
    ):
        if mode == TWO_SHUFFLED_STREAMS:
            raise ValueError(
                "`mode` must not be 'two_shuffled_streams': the noise of both halves cancels over "
                "an epoch for any ell, so the limit is gradient flow, not the SDE. "
                f"Received: mode={mode!r}. Use mode='with_replacement'."
            )
        self.mode = one_of("mode", mode, SAMPLING_MODES)
        self.num_examples = positive_int("num_examples", num_examples)
        self.batch_size = positive_int("batch_size", batch_size)
        self.seed = positive_int("seed", seed, minimum=0)
        needed = {WITH_REPLACEMENT: 1, WITHOUT_REPLACEMENT: batch_size}.get(mode, 2 * batch_size)
        if num_examples < needed:
            raise ValueError(
                f"`batch_size` is too large for {num_examples} examples: mode={mode!r} needs at "
                f"least {needed}. Received: batch_size={batch_size}. Use a smaller `batch_size` or "
                "mode='with_replacement'."
            )
        if mode in _WARNINGS:
            warnings.warn(_WARNINGS[mode], stacklevel=2)
        self._epoch_rows = functools.lru_cache(maxsize=2)(self._make_epoch_rows)

    def __getstate__(self):
        # The cached function cannot be pickled for worker processes.
        return {name: value for name, value in vars(self).items() if name != "_epoch_rows"}

    def __setstate__(self, state):
        vars(self).update(state)
        self._epoch_rows = functools.lru_cache(maxsize=2)(self._make_epoch_rows)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that read about n examples, the rows of one table."""
        return max(1, self.num_examples // (2 * self.batch_size))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Example indices of steps `start` to `stop - 1`, an int32 array of `2 B` columns."""
        per_epoch = self.steps_per_epoch
        first, last = start // per_epoch, math.ceil(stop / per_epoch)
        tables = [self._epoch_rows(epoch) for epoch in range(first, last)]
        if not tables:
            return np.empty((0, 2 * self.batch_size), np.int32)
        offset = first * per_epoch
        return np.concatenate(tables)[start - offset : stop - offset]

    def _make_epoch_rows(self, epoch):
        # As uint64: NumPy would turn a list with a seed of 2^63 or more into floats.
        key = np.array([self.seed, epoch], np.uint64)
        generator = np.random.Generator(np.random.Philox(key=key))
        shape = (self.steps_per_epoch, 2 * self.batch_size)
        if self.mode == WITH_REPLACEMENT:
            rows = generator.integers(self.num_examples, size=shape)
        elif self.mode == WITHOUT_REPLACEMENT:
            rows = np.empty(shape, np.int64)
            for row in rows:
                for half in (0, 1):
                    row[half::2] = generator.choice(
                        self.num_examples, self.batch_size, replace=False
                    )
        elif self.mode == SHUFFLED_EPOCHS:
            rows = generator.permutation(self.num_examples)[: math.prod(shape)].reshape(shape)
        else:
            rows = np.arange(math.prod(shape)).reshape(shape)
        return rows.astype(np.int32)
