"""Image data sets of tensorflow_datasets as uint8 arrays, read once and cached for NumPy.

The cache is the folder of the environment variable KERAS_SVAG_CACHE, or `~/.cache/keras_svag`.
Reading from it imports neither tensorflow nor tensorflow_datasets. docs/datasets.md tells how to
prepare data, and how to take them to a machine that has neither.
"""

import hashlib
import os
import pathlib
import re
import warnings

import numpy as np

from keras_svag.datasets.array_cache import holds_arrays, read_arrays, read_meta, write_arrays
from keras_svag.datasets.dataset import Dataset

# By our name: that of tensorflow_datasets, and the number of classes.
IMAGES = {
    "cifar10": ("cifar10", 10),
    "cifar100": ("cifar100", 100),
    "svhn": ("svhn_cropped", 10),
}
READ_BATCH = 1000


def load_images(
    name, normalization, augmentation=None, data_dir=None, num_train=None, num_test=None
):
    """Loads a data set, from its cache if it is there.

    Args:
        name: a name of `IMAGES`.
        normalization: `Normalization` of the data set.
        augmentation: `PadCropFlip` of its training batches, or `None`. Defaults to `None`.
        data_dir: folder of tensorflow_datasets, or one that `keras_svag.datasets.prepare` wrote
            (which needs no TensorFlow). Defaults to `None`: the environment variable
            TFDS_DATA_DIR, or `~/tensorflow_datasets`.
        num_train: see `Dataset.subset`. Defaults to `None`.
        num_test: see `Dataset.subset`. Defaults to `None`.

    Returns:
        A `Dataset` of uint8 images.

    Raises:
        ValueError: if the data are neither cached nor prepared, or are damaged.
    """
    data_dir = resolve_data_dir(data_dir)
    if holds_arrays(data_dir):
        arrays = read_arrays(data_dir, name)
    else:
        arrays = _cached_arrays(name, data_dir)
    whole = Dataset(name, *arrays, IMAGES[name][1], normalization, augmentation)
    return whole.subset(num_train, num_test)


def prepare_images(name, data_dir=None):
    """Sees to it that a data set is cached; downloads it if it is not in `data_dir`.

    Args:
        name: a name of `IMAGES`.
        data_dir: as for `load_images`.

    Returns:
        The folder with the arrays, as a `pathlib.Path`: it can be copied to another machine and
        given to the loader there as `data_dir`.

    Raises:
        ValueError: if a package that this needs is not installed.
        OSError: if the cache cannot be written.
    """
    data_dir = resolve_data_dir(data_dir)
    if holds_arrays(data_dir):
        read_arrays(data_dir, name)
        return pathlib.Path(data_dir)
    if _read_cache(name, data_dir) is None:
        arrays = _read_tfds(name, data_dir, download=True)
        # After the download: it decides the version, which is in the name of the folder.
        write_arrays(cache_folder(name, data_dir), name, arrays, _source(name, data_dir))
    return cache_folder(name, data_dir)


def resolve_data_dir(data_dir=None):
    """The folder of tensorflow_datasets that `data_dir` means, as an absolute path or URL."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = os.fspath(data_dir)
    return data_dir if "://" in data_dir else os.path.realpath(os.path.expanduser(data_dir))


def cache_folder(name, data_dir):
    """Where the arrays of a data set of `data_dir` (resolved) are cached.

    Args:
        name: a name of `IMAGES`.
        data_dir: what `resolve_data_dir` gave.

    Returns:
        A `pathlib.Path`; its name has the version, if that is known without tensorflow_datasets,
        and a hash of `data_dir`, so that no other folder's arrays are read.
    """
    root = os.environ.get("KERAS_SVAG_CACHE") or "~/.cache/keras_svag"
    version = _prepared_version(name, data_dir)
    digest = hashlib.sha256(data_dir.encode()).hexdigest()[:12]
    folder = "-".join(filter(None, [name, version, digest]))
    return pathlib.Path(os.path.expanduser(root), folder)


def _prepared_version(name, data_dir):
    """The newest version in `data_dir`, or `None` if there is none (or it is on a remote disk)."""
    found = pathlib.Path(data_dir, IMAGES[name][0]).glob("*/dataset_info.json")
    versions = [path.parent.name for path in found]
    versions = [version for version in versions if re.fullmatch(r"\d+\.\d+\.\d+", version)]
    return max(versions, key=lambda v: [int(part) for part in v.split(".")], default=None)


def _source(name, data_dir):
    """Where the arrays come from; with another one, what is cached is out of date."""
    version = _prepared_version(name, data_dir)
    info = pathlib.Path(data_dir, IMAGES[name][0], version or "", "dataset_info.json")
    return {
        "tfds_name": IMAGES[name][0],
        "data_dir": data_dir,
        "version": version,
        "dataset_info": hashlib.sha256(info.read_bytes()).hexdigest() if version else None,
    }


def _read_cache(name, data_dir):
    folder = cache_folder(name, data_dir)
    if not holds_arrays(folder):
        return None
    try:
        if read_meta(folder)["source"] != _source(name, data_dir):
            return None
        return read_arrays(folder, name)
    except ValueError as error:
        warnings.warn(f"{error} (They are made again, if possible.)", stacklevel=5)
        return None


def _cached_arrays(name, data_dir):
    arrays = _read_cache(name, data_dir)
    if arrays is not None:
        return arrays
    arrays = _read_tfds(name, data_dir)
    folder = cache_folder(name, data_dir)
    try:
        write_arrays(folder, name, arrays, _source(name, data_dir))
    except OSError as error:
        warnings.warn(
            f"Data set {name!r} cannot be cached in {str(folder.parent)!r} ({error}); it is read "
            "by tensorflow_datasets every time. Set the environment variable KERAS_SVAG_CACHE to "
            "a folder that can be written.",
            stacklevel=4,
        )
        return arrays
    # What is mapped can be shared with other processes. (None if one is replacing it just now.)
    mapped = _read_cache(name, data_dir)
    return arrays if mapped is None else mapped


def _read_tfds(name, data_dir, download=False):
    try:
        return _read_splits(name, data_dir, download)
    except ImportError as error:
        raise ValueError(
            f"Data set {name!r} is not cached in {str(cache_folder(name, data_dir))!r}, and "
            f"reading it from {data_dir!r} needs tensorflow and tensorflow_datasets ({error}). "
            "Install them with `pip install 'keras-svag[tfds,tensorflow-cpu]'`. Or run "
            f"`python -m keras_svag.datasets.prepare {name}` on a machine that has them, copy the "
            "folder that it prints to this one, and give it as `data_dir`."
        ) from error


def _read_splits(name, data_dir, download):
    import tensorflow_datasets as tfds

    tfds_name, num_classes = IMAGES[name]
    version = _prepared_version(name, data_dir)
    builder = tfds.builder(f"{tfds_name}:{version}" if version else tfds_name, data_dir=data_dir)
    if download:
        builder.download_and_prepare()
    if not builder.is_prepared():
        raise ValueError(
            f"Data set {name!r} must be on this machine, but is not prepared in {data_dir!r} nor "
            f"cached in {str(cache_folder(name, data_dir))!r}. Received: data_dir={data_dir!r}. "
            f"Where there is a network, run `python -m keras_svag.datasets.prepare {name} "
            f"--data_dir={data_dir}`; the folder that it prints can be copied to another machine "
            "and given as `data_dir`."
        )
    arrays = []
    for split in ("train", "test"):
        # In batches: all at once would decode the images into one tensor and then copy that.
        batches = tfds.as_numpy(
            builder.as_dataset(
                split=split, batch_size=READ_BATCH, as_supervised=True, shuffle_files=False
            )
        )
        images, labels = zip(*batches)
        arrays += [np.concatenate(images), np.concatenate(labels).astype(np.int32)]
    Dataset(name, *arrays, num_classes)  # refuses what must not be cached
    return arrays
