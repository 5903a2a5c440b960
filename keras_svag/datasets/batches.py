"""Batches for `fit` that are drawn as the theory of SVAG wants them."""

import keras
from keras import tree

from keras_svag._checks import positive_int
from keras_svag.datasets.sampling import Sampler
from keras_svag.theory import WITH_REPLACEMENT


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
        augmentation: `PadCropFlip`, or anything with its `draw` and `apply`, for `x`; a function of
            seed, step and place in the batch. Defaults to `None`.
        normalization: `Normalization`, or any function of a batch of `x`, called after the
            augmentation. Defaults to `None`.
        **kwargs: As for `keras.utils.PyDataset`. The batches are the same at any number of
            `workers`, threads or processes.

    Raises:
        ValueError: as `Sampler` does, or if there is augmentation or normalization and `x` is not
            one array.

    Example:

    >>> batches = SampledBatches(np.ones((64, 4)), np.ones((64, 1)), batch_size=8)
    >>> x, y = batches[0]
    >>> len(batches), x.shape
    (4, (16, 4))

    Images that are kept as integers are augmented and normalised batch by batch:

    >>> from keras_svag.datasets import Normalization, PadCropFlip
    >>> images, labels = np.zeros((64, 32, 32, 3), np.uint8), np.zeros(64, np.int32)
    >>> normalize = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> batches = SampledBatches(
    ...     images, labels, batch_size=8, augmentation=PadCropFlip(), normalization=normalize
    ... )
    >>> x, y = batches[0]
    >>> x.shape, x.dtype.name, float(x.min())
    ((16, 32, 32, 3), 'float32', -1.0)
    """

    def __init__(
        self,
        x,
        y,
        batch_size,
        mode=WITH_REPLACEMENT,
        seed=0,
        initial_epoch=0,
        augmentation=None,
        normalization=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if (augmentation or normalization) and tree.is_nested(x):
            raise ValueError(
                "`x` must be one array of images if there is `augmentation` or `normalization`. "
                f"Received: x={type(x).__name__} of {len(tree.flatten(x))} arrays"
            )
        self._data = (x, y)
        self._sampler = Sampler(len(tree.flatten(x)[0]), batch_size, mode, seed)
        self._epoch = positive_int("initial_epoch", initial_epoch, minimum=0)
        self._augmentation = augmentation
        self._normalization = normalization
        self._within_epoch = False

    def __len__(self):
        return self._sampler.steps_per_epoch

    def __getitem__(self, index):
        step = self._epoch * len(self) + index
        row = self._sampler.rows(step, step + 1)[0]
        x, y = tree.map_structure(lambda array: array[row], self._data)
        if self._augmentation:
            draws = self._augmentation.draw(self._sampler.seed, step, step + 1, len(row))
            x = self._augmentation.apply(x, draws[0])
        if self._normalization:
            x = self._normalization(x)
        return x, y

    def on_epoch_begin(self):
        """Notes that an epoch is being read."""
        self._within_epoch = True

    def on_epoch_end(self):
        """Moves on to the batches of the next epoch."""
        # Not at the beginning: Keras starts its workers before it calls `on_epoch_begin`. And only
        # after a beginning: `fit` starts with an end.
        if self._within_epoch:
            self._epoch += 1
        self._within_epoch = False
