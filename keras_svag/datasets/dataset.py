"""Data sets for classification: arrays, number of classes, and preprocessing."""

import dataclasses
from typing import Any, Self

import numpy as np

from keras_svag._checks import positive_int
from keras_svag.datasets.augmentation import SUBSETS, PadCropFlip, philox
from keras_svag.datasets.normalization import Normalization
from keras_svag.datasets.uniform import UniformAugmentation


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and test examples with labels, in memory or memory-mapped (read-only).

    Attributes:
        name: name of the data set.
        train_x: array of shape `(n, ...)`, the training examples.
        train_y: int array of shape `(n,)`, their labels, or `(n, length)` with one for each
            position of a sequence. Stored as int32.
        test_x: array of shape `(m, ...)`, the test examples.
        test_y: int array of shape `(m,)` or `(m, length)`, their labels, stored as int32.
        num_classes: int, number of classes.
        normalization: `Normalization` for integer images. Defaults to `None`.
        augmentation: `PadCropFlip` or `UniformAugmentation` for training batches, applied before
            `normalization`. Defaults to `None`.

    Raises:
        ValueError: if an array is empty, does not match the others, or has labels out of range or
            non-finite numbers.
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
            _check_labels(f"{split}_y", y, x, self.num_classes)
            object.__setattr__(self, f"{split}_x", x)
            object.__setattr__(self, f"{split}_y", y.astype(np.int32, copy=False))
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ValueError(
                f"`test_x` must have examples of shape {self.input_shape}, as `train_x`. "
                f"Received: test_x.shape={self.test_x.shape}"
            )
        if isinstance(self.augmentation, PadCropFlip) and len(self.input_shape) != 3:
            raise ValueError(
                "`augmentation` by PadCropFlip needs images of shape (height, width, channels). "
                f"Received: train_x.shape={self.train_x.shape}"
            )

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return len(self.train_x)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, a tuple."""
        return self.train_x.shape[1:]

    def subset(
        self, num_train: int | None = None, num_test: int | None = None, seed: int = 0
    ) -> Self:
        """Returns a class-balanced subset, for studies that need the full gradient.

        If a size is no multiple of the number of classes, the first classes get one more example. A
        smaller subset is part of a larger one of the same seed.

        Args:
            num_train: number of training examples. Defaults to `None`: all.
            num_test: number of test examples. Defaults to `None`: all.
            seed: int >= 0. Defaults to `0`.

        Returns:
            A `Dataset` with the examples in their original order.

        Raises:
            ValueError: if a class has too few examples.
        """
        changes: dict[str, Any] = {}
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
            f"`{name}` must have shape (n, ...) with n >= 1. Received: {name}.shape={x.shape}"
        )
    if x.dtype.kind not in "iuf":
        raise ValueError(f"`{name}` must hold numbers. Received: {name}.dtype={x.dtype}")
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(
            f"`{name}` must hold finite numbers. Received: {len(bad)} examples with NaN or "
            f"infinity, the first at index {bad[0]}. Remove them."
        )
    if normalization is not None and (
        x.dtype.kind == "f" or x.shape[-1] != len(normalization.mean)
    ):
        raise ValueError(
            f"`normalization` is for integers with {len(normalization.mean)} channels. "
            f"Received: {name}.dtype={x.dtype}, {name}.shape={x.shape}"
        )


def _check_labels(name, y, x, num_classes):
    is_sequence = y.ndim == 2 and y.shape == x.shape
    if not (y.shape == (len(x),) or is_sequence) or y.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must be integers of shape ({len(x)},), one per example or, for sequences, "
            f"of shape {x.shape[:2]}, one per position. "
            f"Received: {name}.shape={y.shape}, {name}.dtype={y.dtype}"
        )
    if y.min() < 0 or y.max() >= num_classes:
        raise ValueError(
            f"`{name}` must hold labels from 0 to {num_classes - 1}. "
            f"Received: labels from {y.min()} to {y.max()}"
        )


def _balanced_rows(name, count, labels, num_classes, seed):
    positive_int(name, count)
    if labels.ndim > 1:
        raise ValueError(
            f"`{name}` must be None for sequences, which have no class to balance. Received: "
            f"{name}={count}"
        )
    stream = philox(SUBSETS, positive_int("seed", seed, minimum=0), 0)
    # Shuffled, then stably sorted by class: the first of each class are a random choice.
    order = np.random.Generator(stream).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    available = np.bincount(labels, minlength=num_classes)
    sizes = np.full(num_classes, count // num_classes)
    sizes[: count % num_classes] += 1
    if (sizes > available).any():
        smallest = int(available.min())
        raise ValueError(
            f"`{name}` must be at most {smallest * num_classes}, since the rarest of the "
            f"{num_classes} classes has {smallest} examples. Received: {name}={count}"
        )
    starts = np.cumsum(available) - available
    return np.sort(np.concatenate([order[s : s + n] for s, n in zip(starts, sizes)]))
