"""Recipes on their way to worker processes: functions by value, large arrays in shared files."""

import dataclasses
import io
import pathlib
import pickle

import cloudpickle
import keras
import numpy as np

from keras_svag.optimizers.registry import live_config
from keras_svag.recipe.source import import_file

# Smaller arrays go through the pipe.
SHARED_BYTES = 2**16


@dataclasses.dataclass(frozen=True)
class Payload:
    """What a worker process needs to build the recipe.

    Attributes:
        modules: tuples of name and file of the modules to execute first.
        dtype_policy: name of the global dtype policy.
        floatx: name of the default float dtype.
        recipe: the pickled recipe.
    """

    modules: tuple
    dtype_policy: str
    floatx: str
    recipe: bytes


def pack(recipe, folder):
    """Pickles a recipe.

    Args:
        recipe: a `Recipe`; functions may be those of a notebook or a script.
        folder: where large arrays are put, for all workers to map.

    Returns:
        A `Payload`.

    Raises:
        ValueError: if something in the recipe cannot be pickled.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, folder).dump(recipe)
    except Exception as error:
        raise ValueError(
            "`recipe` must hold functions and objects that can be sent to worker processes. "
            f"Received: one that cannot be pickled ({type(error).__name__}: {error}). Create "
            "models, files and locks inside the functions, or use num_workers=1."
        ) from error
    return Payload(
        tuple(recipe.modules),
        keras.config.dtype_policy().name,
        keras.config.floatx(),
        buffer.getvalue(),
    )


def unpack(payload):
    """The recipe of a `Payload`, in another process."""
    keras.config.set_floatx(payload.floatx)
    keras.config.set_dtype_policy(payload.dtype_policy)
    for name, file in payload.modules:
        import_file(name, file)
    return pickle.loads(payload.recipe)


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file, folder):
        super().__init__(file)
        self._folder = pathlib.Path(folder)
        self._count = 0

    def reducer_override(self, value):
        if type(value) is np.ndarray and value.nbytes > SHARED_BYTES and not value.dtype.hasobject:
            path = self._folder / f"{self._count}.npy"
            self._count += 1
            np.save(path, value, allow_pickle=False)
            return _map_array, (str(path),)
        # Keras would pickle these by saving them, which needs registered classes.
        if isinstance(value, keras.optimizers.Optimizer):
            return _rebuild, (type(value), live_config(value))
        if isinstance(value, keras.metrics.Metric):
            return _rebuild, (type(value), value.get_config())
        if isinstance(value, keras.losses.Loss):
            return _restore, (type(value), dict(vars(value)))
        return super().reducer_override(value)


def _map_array(path):
    # As a plain array: a `memmap` would go on being one in whatever is computed from it.
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _rebuild(cls, config):
    return cls.from_config(config)


def _restore(cls, attributes):
    value = object.__new__(cls)
    vars(value).update(attributes)
    return value
