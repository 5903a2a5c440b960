"""What a data set is to the studies: four arrays, the number of classes, how to feed a network."""

import dataclasses
import hashlib

import numpy as np

from keras_svag._checks import positive_int
from keras_svag.datasets.augmentation import PadCropFlip
from keras_svag.datasets.normalization import Normalization
from keras_svag.datasets.uniform import UniformAugmentation

# Philox counters of `subset`; see keras_svag/datasets/augmentation.py for the others.
COUNTER = (0, 0, 0, 3)


class TrainingArrays:
    """What follows from the array `train_x`."""

    @property
    def num_train(self):
        """Number of training examples."""
        return len(self.train_x)

    @property
    def input_shape(self):
        """Shape of one example, as a tuple."""
        return self.train_x.shape[1:]


@dataclasses.dataclass(frozen=True)
class Dataset(TrainingArrays):
    """Images and labels for training and testing, in memory or mapped from files (read-only).

    Attributes:
        name: Name of the data set.
        train_x: array of shape `(n, ...)`, the training examples.
        train_y: int array of shape `(n,)`, their classes; kept as int32.
        test_x: array of shape `(m, ...)`, the test examples.
        test_y: int array of shape `(m,)`, their classes; kept as int32.
        num_classes: number of classes.
        normalization: `Normalization` that makes of a batch of `train_x` or `test_x` what a network
            reads, or `None` if they are that already. Defaults to `None`.
        augmentation: `PadCropFlip` or `UniformAugmentation` for training batches, applied before
            `normalization`, or `None`. Defaults to `None`.

    Raises:
        ValueError: if an array is empty, does not fit the others, or holds a label out of range or
            a number that is not finite.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int
    normalization: Normalization | None = None
    augmentation: PadCropFlip | UniformAugmentation | None = None

    def __post_init__(self):
        positive_int("num_classes", self.num_classes)
        for split in ("train", "test"):
            x, y = (np.asarray(getattr(self, f"{split}_{part}")) for part in "xy")
            _check_images(f"{split}_x", x, self.normalization)
            _check_labels(f"{split}_y", y, len(x), self.num_classes)
            object.__setattr__(self, f"{split}_x", x)
            object.__setattr__(self, f"{split}_y", y.astype(np.int32, copy=False))
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ValueError(
                f"`test_x` must have examples of the shape {self.input_shape}, as `train_x`. "
                f"Received: test_x.shape={self.test_x.shape}"
            )
        if isinstance(self.augmentation, PadCropFlip) and len(self.input_shape) != 3:
            raise ValueError(
                "`augmentation` by PadCropFlip needs images of the shape (height, width, "
                f"channels). Received: train_x.shape={self.train_x.shape}"
            )

    def fingerprint(self):
        """A string that tells these examples, in this order, from others (SHA-256)."""
        digest = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def subset(self, num_train=None, num_test=None, seed=0):
        """A part of the data set with as many examples of each class.

        What needs the full gradient, such as gradient descent with Gaussian noise, is affordable on
        a part only. Sizes that are no multiple of the number of classes give the first classes one
        more. A smaller subset is part of a larger one of the same seed.

        Args:
            num_train: number of training examples, or `None` for all. Defaults to `None`.
            num_test: number of test examples, or `None` for all. Defaults to `None`.
            seed: int >= 0, decides which. Defaults to `0`.

        Returns:
            A `Dataset`; examples stand in the same order as here.

        Raises:
            ValueError: if a class has too few examples.
        """
        changes = {}
        for split, count in (("train", num_train), ("test", num_test)):
            if count is None:
                continue
            x, y = getattr(self, f"{split}_x"), getattr(self, f"{split}_y")
            rows = _balanced_rows(f"num_{split}", count, y, self.num_classes, seed)
            changes |= {f"{split}_x": x[rows], f"{split}_y": y[rows]}
        return dataclasses.replace(self, **changes)


def _check_images(name, x, normalization):
    if x.ndim < 2 or not x.size:
        raise ValueError(
            f"`{name}` must have the shape (n, ...) with at least one example. "
            f"Received: {name}.shape={x.shape}"
        )
    if x.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must hold numbers. Received: {name}.dtype={x.dtype}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(
            f"`{name}` must hold finite numbers. Received: {len(bad)} examples with NaN or "
            f"infinity, the first at {bad[0]}. Leave them out."
        )
    if normalization is not None and (
        x.dtype.kind == "f" or x.shape[-1] != len(normalization.mean)
    ):
        raise ValueError(
            f"`normalization` is for integers with {len(normalization.mean)} channels. "
            f"Received: {name}.dtype={x.dtype}, {name}.shape={x.shape}"
        )


def _check_labels(name, y, count, num_classes):
    if y.shape != (count,) or y.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must be integers of the shape ({count},), one for each example. "
            f"Received: {name}.shape={y.shape}, {name}.dtype={y.dtype}"
        )
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(
            f"`{name}` must hold labels from 0 to {num_classes - 1}. "
            f"Received: labels from {y.min()} to {y.max()}"
        )


def _balanced_rows(name, count, labels, num_classes, seed):
    positive_int(name, count)
    key = np.array([positive_int("seed", seed, minimum=0), 0], np.uint64)
    stream = np.random.Philox(key=key, counter=np.array(COUNTER, np.uint64))
    # Shuffled, then by class (a stable sort): the first of each class are a random choice.
    order = np.random.Generator(stream).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    available = np.bincount(labels, minlength=num_classes)
    wanted = np.full(num_classes, count // num_classes)
    wanted[: count % num_classes] += 1
    if (wanted > available).any():
        smallest = int(available.min())
        raise ValueError(
            f"`{name}` must leave as many examples of each class as there are: the rarest of the "
            f"{num_classes} classes has {smallest}. Received: {name}={count}. "
            f"Use at most {smallest * num_classes}."
        )
    starts = np.cumsum(available) - available
    return np.sort(np.concatenate([order[s : s + w] for s, w in zip(starts, wanted)]))
