"""Batches for `fit`, drawn as the theory of SVAG assumes."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import keras
from keras import tree

from keras_svag._checks import positive_int
from keras_svag.datasets.augmentation import PadCropFlip
from keras_svag.datasets.normalization import Normalization
from keras_svag.datasets.sampling import WITH_REPLACEMENT, Sampler
from keras_svag.datasets.uniform import as_augmentation


class SampledBatches(keras.utils.PyDataset):
    """Batches of 2B examples for `fit`, with independently drawn halves.

    Plain `fit(x, y)` cuts a shuffled epoch into batches, whose gradient noise cancels over the
    epoch, so it has no SDE to compare with. Here every batch is drawn independently; an epoch is
    still n examples.

    Args:
        x: array of shape `(n, ...)`, or a structure of such arrays.
        y: array of shape `(n, ...)`, or a structure of such arrays, the targets.
        batch_size: int, B, size of one half and batch size of the SGD run.
        mode: see `keras_svag.datasets.Sampler`. Defaults to `"with_replacement"`.
        seed: int >= 0. Defaults to `0`.
        initial_epoch: int, that of `fit` when training is resumed; otherwise the batches of the
            first epochs are repeated. Defaults to `0`.
        augmentation: object with `draw` and `apply`, such as `PadCropFlip`, or a function as for
            `UniformAugmentation` with four uniform numbers per example. Defaults to `None`.
        normalization: `Normalization`, or any function of a batch of `x`, applied after the
            augmentation. Defaults to `None`.
        **kwargs: as for `keras.utils.PyDataset`. `workers` do not change the batches.

    Raises:
        ValueError: as `Sampler` does, or if `x` is not one array of images where it must be.

    Example:

    >>> batches = SampledBatches(np.ones((64, 4)), np.ones((64, 1)), batch_size=8)
    >>> x, y = batches[0]
    >>> len(batches), x.shape
    (4, (16, 4))

    Integer images are augmented and normalized batch by batch:

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
        x: Any,
        y: Any,
        batch_size: int,
        mode: str = WITH_REPLACEMENT,
        seed: int = 0,
        initial_epoch: int = 0,
        augmentation: Callable | PadCropFlip | None = None,
        normalization: Callable | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        prepared: Any = as_augmentation(augmentation)
        for_images = isinstance(prepared, PadCropFlip) or isinstance(normalization, Normalization)
        if for_images and tree.is_nested(x):
            raise ValueError(
                "`x` must be one array of images for `PadCropFlip` and `Normalization`. "
                f"Received: x={type(x).__name__} of {len(tree.flatten(x))} arrays"
            )
        self._data = (x, y)
        self._sampler = Sampler(len(tree.flatten(x)[0]), batch_size, mode, seed)
        self._epoch = positive_int("initial_epoch", initial_epoch, minimum=0)
        self._augmentation = prepared
        self._normalization = normalization
        self._within_epoch = False

    @property
    def batch_size(self) -> int:
        """B, the size of one half."""
        return self._sampler.batch_size

    @property
    def epoch(self) -> int:
        """The epoch whose batches are read; may be assigned between epochs."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int):
        self._epoch = positive_int("epoch", epoch, minimum=0)

    def resized(self, batch_size: int) -> "SampledBatches":
        """Returns the same draws in batches of another size."""
        old, other = self._sampler, copy.copy(self)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the sampling mode: given before
            other._sampler = Sampler(old.num_examples, batch_size, old.mode, old.seed)
        return other

    def __len__(self):
        return self._sampler.steps_per_epoch

    def __getitem__(self, index):
        step = self._epoch * len(self) + index
        row = self._sampler.rows(step, step + 1)[0]
        x, y = tree.map_structure(lambda array: array[row], self._data)
        if self._augmentation:
            params = self._augmentation.draw(self._sampler.seed, step, step + 1, len(row))
            x = self._augmentation.apply(x, params[0])
        if self._normalization:
            x = self._normalization(x)
        return x, y

    def on_epoch_begin(self):
        """Marks that an epoch is being read."""
        self._within_epoch = True

    def on_epoch_end(self):
        """Moves on to the batches of the next epoch."""
        # Not in `on_epoch_begin`, which Keras calls after it has started its workers. And only
        # after it, since `fit` first calls `on_epoch_end`.
        if self._within_epoch:
            self._epoch += 1
        self._within_epoch = False
