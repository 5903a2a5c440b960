"""Image data sets of tensorflow_datasets as uint8 arrays, cached as NumPy files.

The cache is in the folder KERAS_SVAG_CACHE, by default `~/.cache/keras_svag`. Reading it needs
neither tensorflow nor tensorflow_datasets. See docs/datasets.md on preparing and copying data.
"""

import hashlib
import os
import pathlib
import re
import warnings

import numpy as np

from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.tfds.cache import (
    ARRAYS,
    holds_arrays,
    read_arrays,
    read_meta,
    write_arrays,
)

# Names of ours that differ from those of tensorflow_datasets.
TFDS_NAMES = {"svhn": "svhn_cropped"}
READ_BATCH = 1000


def load_images(name, data_dir=None):
    """Loads a data set from `data_dir`, or from its cache, as a `Dataset` of uint8 images."""
    name, data_dir = _cache_name(name), resolve_data_dir(data_dir)
    return _read_folder(data_dir, name) if holds_arrays(data_dir) else _load_cached(name, data_dir)


def prepare_images(name, data_dir=None):
    """Caches a data set, downloading it if needed; returns the folder with its arrays."""
    name, data_dir = _cache_name(name), resolve_data_dir(data_dir)
    if holds_arrays(data_dir):
        read_arrays(data_dir, name)
        return pathlib.Path(data_dir)
    if _read_cache(name, data_dir) is None:
        dataset = _read_tfds(name, data_dir, download=True)
        # After the download, which determines the version in the name of the folder.
        _write_folder(cache_folder(name, data_dir), dataset, data_dir)
    return cache_folder(name, data_dir)


def resolve_data_dir(data_dir=None):
    """The folder of tensorflow_datasets, an absolute path or URL."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = os.fspath(data_dir)
    return data_dir if "://" in data_dir else os.path.realpath(os.path.expanduser(data_dir))


def cache_folder(name, data_dir):
    """Folder where the arrays of a data set of `data_dir` (resolved) are cached."""
    root = os.environ.get("KERAS_SVAG_CACHE") or "~/.cache/keras_svag"
    version = _prepared_version(name, data_dir)
    digest = hashlib.sha256(data_dir.encode()).hexdigest()[:12]
    folder = "-".join(filter(None, [name.replace("/", "-"), version, digest]))
    return pathlib.Path(os.path.expanduser(root), folder)


def _cache_name(name):
    """Validates a name, which becomes part of paths; returns the name used in the cache."""
    if not isinstance(name, str) or not re.fullmatch(r"\w+(/\w[\w.+-]*)?", name, re.ASCII):
        raise ValueError(
            "`tfds_name` must be the name of a data set of tensorflow_datasets, such as 'mnist', "
            f"or 'name/config', without a version. Received: tfds_name={name!r}"
        )
    return {theirs: ours for ours, theirs in TFDS_NAMES.items()}.get(name, name)


def _tfds_name(name):
    return TFDS_NAMES.get(name, name)


def _prepared_version(name, data_dir):
    """Newest version in `data_dir`; `None` if there is none, or on a remote disk."""
    found = pathlib.Path(data_dir, _tfds_name(name)).glob("*/dataset_info.json")
    versions = [path.parent.name for path in found]
    versions = [version for version in versions if re.fullmatch(r"\d+\.\d+\.\d+", version)]
    return max(versions, key=lambda v: [int(part) for part in v.split(".")], default=None)


def _source(name, data_dir):
    """Origin of the arrays; the cache is out of date if it differs."""
    version = _prepared_version(name, data_dir)
    info = pathlib.Path(data_dir, _tfds_name(name), version or "", "dataset_info.json")
    return {
        "tfds_name": _tfds_name(name),
        "data_dir": data_dir,
        "version": version,
        "dataset_info": hashlib.sha256(info.read_bytes()).hexdigest() if version else None,
    }


def _read_folder(folder, name):
    train_x, train_y, test_x, test_y = read_arrays(folder, name)
    num_classes = read_meta(folder)["num_classes"]
    return Dataset(name, train_x, train_y, test_x, test_y, num_classes)


def _write_folder(folder, dataset, data_dir):
    arrays = [getattr(dataset, array) for array in ARRAYS]
    write_arrays(folder, dataset.name, arrays, _source(dataset.name, data_dir), dataset.num_classes)


def _read_cache(name, data_dir):
    folder = cache_folder(name, data_dir)
    if not holds_arrays(folder):
        return None
    try:
        if read_meta(folder)["source"] != _source(name, data_dir):
            return None
        return _read_folder(folder, name)
    except ValueError as error:
        warnings.warn(f"{error} Trying to create them again.", stacklevel=5)
        return None


def _load_cached(name, data_dir):
    dataset = _read_cache(name, data_dir)
    if dataset is not None:
        return dataset
    dataset = _read_tfds(name, data_dir)
    folder = cache_folder(name, data_dir)
    try:
        _write_folder(folder, dataset, data_dir)
    except OSError as error:
        warnings.warn(
            f"Data set {name!r} cannot be cached in {str(folder.parent)!r} ({error}), so "
            "tensorflow_datasets reads it every time. Set the environment variable "
            "KERAS_SVAG_CACHE to a writable folder.",
            stacklevel=4,
        )
        return dataset
    # Mapped arrays are shared between processes. (None while another one replaces the folder.)
    mapped = _read_cache(name, data_dir)
    return dataset if mapped is None else mapped


def _read_tfds(name, data_dir, download=False):
    try:
        return _read_splits(name, data_dir, download)
    except ImportError as error:
        raise ValueError(
            f"Data set {name!r} is not cached in {str(cache_folder(name, data_dir))!r}, and "
            f"reading it from {data_dir!r} needs tensorflow and tensorflow_datasets ({error}). "
            "Run `pip install 'keras-svag[tfds,tensorflow-cpu]'`; or run "
            f"`python -m keras_svag.datasets.prepare {name}` on a machine that has them, copy the "
            "folder that it prints, and pass it as `data_dir`."
        ) from error


def _read_splits(name, data_dir, download):
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    num_classes = _num_classes(name, builder.info)
    if download:
        builder.download_and_prepare()
    if not builder.is_prepared():
        raise ValueError(
            f"Data set {name!r} is not prepared in {data_dir!r} nor cached in "
            f"{str(cache_folder(name, data_dir))!r}. Received: data_dir={data_dir!r}. Run "
            f"`python -m keras_svag.datasets.prepare {name} --data_dir={data_dir}`, on a machine "
            "with a network; the folder that it prints can be copied and passed as `data_dir`."
        )
    splits = builder.info.splits
    if splits and not {"train", "test"} <= set(splits):
        raise ValueError(
            f"Data set {name!r} must have the splits 'train' and 'test'. "
            f"Received: {', '.join(map(repr, splits))}"
        )
    arrays = []
    for split in ("train", "test"):
        # In batches, since one batch of all images would be in memory twice.
        batches = tfds.as_numpy(
            builder.as_dataset(
                split=split, batch_size=READ_BATCH, as_supervised=True, shuffle_files=False
            )
        )
        images, labels = zip(*batches)
        arrays += [np.concatenate(images), np.concatenate(labels).astype(np.int32)]
    train_x, train_y, test_x, test_y = arrays
    # Validates before anything is cached.
    return Dataset(name, train_x, train_y, test_x, test_y, num_classes)


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    version = _prepared_version(name, data_dir)
    full_name = ":".join(filter(None, [_tfds_name(name), version]))
    try:
        return tfds.builder(full_name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:  # its message lists all names
        raise ValueError(
            "`tfds_name` must be the name of a data set of tensorflow_datasets, or of one prepared "
            f"in {data_dir!r}. Received: tfds_name={name!r}. See "
            "https://www.tensorflow.org/datasets/catalog for the names."
        ) from error


def _num_classes(name, info):
    """Number of classes; raises unless the data are images of one size with one label each."""
    keys = info.supervised_keys or ()
    pair = [info.features[key] for key in keys if isinstance(key, str)]
    if len(pair) == 2:
        image, label = pair
        shape = image.shape if isinstance(image.shape, tuple) else ()
        num_classes = getattr(label, "num_classes", None)
        one_size = len(shape) == 3 and all(shape)
        if image.dtype == np.uint8 and one_size and label.shape == () and num_classes:
            return int(num_classes)
    raise ValueError(
        f"Data set {name!r} must have uint8 images of one shape (height, width, channels), each "
        f"with an integer label of a known number of classes. Received: supervised_keys={keys}, "
        f"features {', '.join(map(str, pair)) or 'not described'}. Pass other data as arrays to a "
        "keras_svag.Recipe."
    )
