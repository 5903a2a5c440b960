"""Recipes sent to worker processes: functions by value, large arrays as mapped files."""

import io
import pathlib
import pickle

import cloudpickle
import keras
import numpy as np

from keras_svag._checks import error_text
from keras_svag._keras import names_without_decay
from keras_svag.engine.files import records
from keras_svag.optimizers.registry import live_config
from keras_svag.recipe.source import import_file

# Smaller arrays are pickled.
MIN_MAPPED_BYTES = 2**16


def pack(recipe, folder):
    """Pickles a recipe, notebook functions included; saves its large arrays in `folder`."""
    payload, arrays = pickle_recipe(recipe, folder, map_array)
    try:
        save_arrays(arrays)
    except OSError as error:
        raise records.WriteError(
            f"`{folder}` could not be written: {error.strerror or error}. Arrays for worker "
            "processes are stored there. Set TMPDIR to a folder with more space, or use "
            "num_workers=1."
        ) from error
    return payload


def save_arrays(arrays):
    """Saves arrays by their path."""
    for path, array in arrays.items():
        np.save(path, array, allow_pickle=False)


def pickle_recipe(recipe, folder, load):
    """Pickles a recipe; also returns its large arrays by path, from where `load` will read them."""
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, folder, load)
    try:
        pickler.dump(recipe)
    except Exception as error:
        raise ValueError(
            "`recipe` must hold functions and objects that can be pickled for worker processes. "
            f"Received: one that cannot ({error_text(error)}). Create models, files "
            "and locks inside the functions, or use num_workers=1."
        ) from error
    # What must be set up before the recipe can be unpickled comes first.
    settings = keras.config.floatx(), keras.config.dtype_policy().name, tuple(recipe.modules)
    return (*settings, buffer.getvalue()), pickler.arrays


def unpack(payload):
    """Unpickles what `pack` returned, in another process."""
    floatx, dtype_policy, modules, pickled = payload
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(dtype_policy)
    for name, file in modules:
        import_file(name, file)
    return pickle.loads(pickled)


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file, folder, load):
        super().__init__(file)
        self._folder, self._load = pathlib.Path(folder), load
        self.arrays = {}

    def reducer_override(self, value):
        is_large = type(value) is np.ndarray and value.nbytes > MIN_MAPPED_BYTES
        if is_large and not value.dtype.hasobject:
            path = self._folder / f"{len(self.arrays)}.npy"
            self.arrays[path] = value
            return self._load, (str(path),)
        # Keras pickles these by saving them, which works only for registered classes.
        if isinstance(value, keras.optimizers.Optimizer):
            excluded = names_without_decay(value)
            return _optimizer_from_config, (type(value), live_config(value), excluded)
        if isinstance(value, keras.metrics.Metric):
            return _from_config, (type(value), value.get_config())
        if isinstance(value, keras.losses.Loss):
            return _from_attributes, (type(value), dict(vars(value)))
        return super().reducer_override(value)


def load_array(path):
    """Reads an array, whose file may then be removed by another machine."""
    return np.load(path, allow_pickle=False)


def map_array(path):
    """Maps an array into memory, which the processes of a machine then share."""
    # A plain array: results of computations with a `memmap` would be memmaps too.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _from_config(cls, config):
    return cls.from_config(config)


def _optimizer_from_config(cls, config, excluded):
    optimizer = cls.from_config(config)
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=excluded)
    return optimizer


def _from_attributes(cls, attributes):
    value = object.__new__(cls)
    vars(value).update(attributes)
    return value
