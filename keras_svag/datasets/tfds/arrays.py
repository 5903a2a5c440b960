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

from keras_svag.datasets.dataset import Dataset
from keras_svag.datasets.tfds.cache import (
    ARRAYS,
    holds_arrays,
    read_arrays,
    read_meta,
    write_arrays,
)

# Our name, and that of tensorflow_datasets, where they differ.
TFDS_NAMES = {"svhn": "svhn_cropped"}
READ_BATCH = 1000


def load_images(name, data_dir=None):
    """Loads a data set, from its cache if it is there.

    Args:
        name: name of the data set, ours or that of tensorflow_datasets.
        data_dir: folder of tensorflow_datasets, or one that `keras_svag.datasets.prepare` wrote
            (which needs no TensorFlow). Defaults to `None`: the environment variable
            TFDS_DATA_DIR, or `~/tensorflow_datasets`.

    Returns:
        A `Dataset` of uint8 images, with no normalization and augmentation yet.

    Raises:
        ValueError: if the data are neither cached nor prepared, are damaged, or are not images with
            a class each.
    """
    name, data_dir = _our_name(name), resolve_data_dir(data_dir)
    return _read_folder(data_dir, name) if holds_arrays(data_dir) else _cached(name, data_dir)


def prepare_images(name, data_dir=None):
    """Sees to it that a data set is cached; downloads it if it is not in `data_dir`.

    Args:
        name: as for `load_images`.
        data_dir: as for `load_images`.

    Returns:
        The folder with the arrays, as a `pathlib.Path`: it can be copied to another machine and
        given to the loader there as `data_dir`.

    Raises:
        ValueError: if a package that this needs is not installed, or the data set is none of images
            with a class each.
        OSError: if the cache cannot be written.
    """
    name, data_dir = _our_name(name), resolve_data_dir(data_dir)
    if holds_arrays(data_dir):
        read_arrays(data_dir, name)
        return pathlib.Path(data_dir)
    if _read_cache(name, data_dir) is None:
        whole = _read_tfds(name, data_dir, download=True)
        # After the download: it decides the version, which is in the name of the folder.
        _write_folder(cache_folder(name, data_dir), whole, data_dir)
    return cache_folder(name, data_dir)


def resolve_data_dir(data_dir=None):
    """The folder of tensorflow_datasets that `data_dir` means, as an absolute path or URL."""
    data_dir = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = os.fspath(data_dir)
    return data_dir if "://" in data_dir else os.path.realpath(os.path.expanduser(data_dir))


def cache_folder(name, data_dir):
    """Where the arrays of a data set of `data_dir` (resolved) are cached.

    Args:
        name: our name of the data set.
        data_dir: what `resolve_data_dir` gave.

    Returns:
        A `pathlib.Path`; its name has the version, if that is known without tensorflow_datasets,
        and a hash of `data_dir`, so that no other folder's arrays are read.
    """
    root = os.environ.get("KERAS_SVAG_CACHE") or "~/.cache/keras_svag"
    version = _prepared_version(name, data_dir)
    digest = hashlib.sha256(data_dir.encode()).hexdigest()[:12]
    folder = "-".join(filter(None, [name.replace("/", "-"), version, digest]))
    return pathlib.Path(os.path.expanduser(root), folder)


def _our_name(name):
    """The one name by which a data set is cached, checked: it becomes part of paths."""
    if not isinstance(name, str) or not re.fullmatch(r"\w+(/\w[\w.+-]*)?", name, re.ASCII):
        raise ValueError(
            "`tfds_name` must be the name of a data set of tensorflow_datasets, such as 'mnist', "
            "or 'name/config' (the newest version that is prepared is read). "
            f"Received: tfds_name={name!r}"
        )
    return {theirs: ours for ours, theirs in TFDS_NAMES.items()}.get(name, name)


def _tfds_name(name):
    return TFDS_NAMES.get(name, name)


def _prepared_version(name, data_dir):
    """The newest version in `data_dir`, or `None` if there is none (or it is on a remote disk)."""
    found = pathlib.Path(data_dir, _tfds_name(name)).glob("*/dataset_info.json")
    versions = [path.parent.name for path in found]
    versions = [version for version in versions if re.fullmatch(r"\d+\.\d+\.\d+", version)]
    return max(versions, key=lambda v: [int(part) for part in v.split(".")], default=None)


def _source(name, data_dir):
    """Where the arrays come from; with another one, what is cached is out of date."""
    version = _prepared_version(name, data_dir)
    info = pathlib.Path(data_dir, _tfds_name(name), version or "", "dataset_info.json")
    return {
        "tfds_name": _tfds_name(name),
        "data_dir": data_dir,
        "version": version,
        "dataset_info": hashlib.sha256(info.read_bytes()).hexdigest() if version else None,
    }


def _read_folder(folder, name):
    arrays = read_arrays(folder, name)
    num_classes = read_meta(folder)["num_classes"]
    if num_classes is None:  # of an earlier version, which knew but data sets with all classes
        num_classes = 1 + max(int(y.max()) for y in arrays[1::2])
    return Dataset(name, *arrays, num_classes)


def _write_folder(folder, whole, data_dir):
    arrays = [getattr(whole, array) for array in ARRAYS]
    write_arrays(folder, whole.name, arrays, _source(whole.name, data_dir), whole.num_classes)


def _read_cache(name, data_dir):
    folder = cache_folder(name, data_dir)
    if not holds_arrays(folder):
        return None
    try:
        if read_meta(folder)["source"] != _source(name, data_dir):
            return None
        return _read_folder(folder, name)
    except ValueError as error:
        warnings.warn(f"{error} (They are made again, if possible.)", stacklevel=5)
        return None


def _cached(name, data_dir):
    whole = _read_cache(name, data_dir)
    if whole is not None:
        return whole
    whole = _read_tfds(name, data_dir)
    folder = cache_folder(name, data_dir)
    try:
        _write_folder(folder, whole, data_dir)
    except OSError as error:
        warnings.warn(
            f"Data set {name!r} cannot be cached in {str(folder.parent)!r} ({error}); it is read "
            "by tensorflow_datasets every time. Set the environment variable KERAS_SVAG_CACHE to "
            "a folder that can be written.",
            stacklevel=4,
        )
        return whole
    # What is mapped can be shared with other processes. (None if one is replacing it just now.)
    mapped = _read_cache(name, data_dir)
    return whole if mapped is None else mapped


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

    builder = _builder(name, data_dir)
    num_classes = _num_classes(name, builder.info)
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
    splits = builder.info.splits
    if splits and not {"train", "test"} <= set(splits):
        raise ValueError(
            f"Data set {name!r} must have the splits 'train' and 'test'. "
            f"Received: {', '.join(map(repr, splits))}"
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
    return Dataset(name, *arrays, num_classes)  # refuses what must not be cached


def _builder(name, data_dir):
    import tensorflow_datasets as tfds

    version = _prepared_version(name, data_dir)
    full_name = ":".join(filter(None, [_tfds_name(name), version]))
    try:
        return tfds.builder(full_name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:  # whose message lists all that there are
        raise ValueError(
            "`tfds_name` must be the name of a data set of tensorflow_datasets, or of one that is "
            f"prepared in {data_dir!r}. Received: tfds_name={name!r}, which is neither. See "
            "https://www.tensorflow.org/datasets/catalog for the names."
        ) from error


def _num_classes(name, info):
    """The number of classes of a data set, if it is of images of one size with a class each."""
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
        f"Data set {name!r} must be of uint8 images of one shape (height, width, channels), each "
        f"with an integer label of a known number of classes. Received: supervised_keys={keys}, "
        f"features {', '.join(map(str, pair)) or 'not described'}. Give data of other kinds as "
        "arrays of your own."
    )
