"""What a data set is to the studies: four arrays and the number of classes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Images and labels for training and testing, in memory.

    Attributes:
        name: Name of the data set.
        train_x: array of shape `(n, ...)`, the training examples.
        train_y: int array of shape `(n,)`, their classes.
        test_x: array of shape `(m, ...)`, the test examples.
        test_y: int array of shape `(m,)`, their classes.
        num_classes: number of classes.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    num_classes: int
    normalization: object = None
    augmentation: object = None

    @property
    def input_shape(self):
        """Shape of one example."""
        return self.train_x.shape[1:]

    @property
    def num_train(self):
        """Number of training examples."""
        return len(self.train_x)
