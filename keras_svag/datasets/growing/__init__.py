"""Data whose batch size grows while `fit` reads them."""

from keras_svag import _keras
from keras_svag.datasets.batches import SampledBatches
from keras_svag.datasets.growing.py_dataset import GrowingBatches

__all__ = ["growing_batches"]


def growing_batches(data, sizes, shuffle=None, class_weight=None):
    """Returns data whose batches grow through `sizes`, and the data adapter for `fit`."""
    # An adapter, since `fit` would shuffle a `PyDataset`, and mix the batch sizes of an epoch.
    if _keras.is_tf_dataset(data):
        # Imported here: TensorFlow may be missing.
        from keras_svag.datasets.growing.tensorflow import GrowingDataset

        growing = GrowingDataset(data, sizes, class_weight)
        return growing, growing
    is_sampled = isinstance(data, SampledBatches)
    shuffle = not is_sampled if shuffle is None else bool(shuffle)
    growing = GrowingBatches(data, sizes)
    if shuffle and is_sampled:
        raise ValueError(
            "`shuffle` must be False for SampledBatches, which are random already. "
            "Received: shuffle=True."
        )
    return growing, _keras.PyDatasetAdapter(growing, class_weight, shuffle)
