"""Batches for `fit` that are drawn as the theory of SVAG wants them."""

import keras
from keras import tree

from keras_svag._checks import positive_int
from keras_svag.datasets.sampling import WITH_REPLACEMENT, Sampler


class SampledBatches(keras.utils.PyDataset):
    """Batches of 2B examples for `fit`, each half drawn independently of the other.

    Plain `fit(x, y)` cuts one shuffled epoch into batches, whose gradient noise cancels over the
    epoch, so that there is no SDE to compare with. This draws every batch anew; an "epoch" is
    still as many examples as there are.

    Args:
        x: array, or structure of arrays, of n examples.
        y: array, or structure of arrays, of n targets.
        batch_size: B, the size of one half and the batch size of the SGD run.
        mode: see `keras_svag.datasets.Sampler`. Defaults to `"with_replacement"`.
        seed: int >= 0. Defaults to `0`.
        initial_epoch: int, the epoch to begin with; give it the `initial_epoch` of `fit` when
            training goes on, else the first epochs' batches are read again. Defaults to `0`.
        **kwargs: As for `keras.utils.PyDataset`.

    Raises:
        ValueError: as `Sampler` does.

    Example:

    >>> batches = SampledBatches(np.ones((64, 4)), np.ones((64, 1)), batch_size=8)
    >>> x, y = batches[0]
    >>> len(batches), x.shape
    (4, (16, 4))
    """

    def __init__(self, x, y, batch_size, mode=WITH_REPLACEMENT, seed=0, initial_epoch=0, **kwargs):
        super().__init__(**kwargs)
        self._data = (x, y)
        self._sampler = Sampler(len(tree.flatten(x)[0]), batch_size, mode, seed)
        first = positive_int("initial_epoch", initial_epoch, minimum=0)
        self._epoch = first - 1  # none has begun

    def __len__(self):
        return self._sampler.steps_per_epoch

    def __getitem__(self, index):
        step = max(self._epoch, 0) * len(self) + index
        row = self._sampler.rows(step, step + 1)[0]
        return tree.map_structure(lambda array: array[row], self._data)

    def on_epoch_begin(self):
        """Moves on to the batches of the next epoch."""
        self._epoch += 1
