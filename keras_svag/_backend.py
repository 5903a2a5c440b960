"""Checks the Keras backend and imports its modules.

A package that needs more than Keras has modules `tensorflow.py` and `jax.py` with the same names,
`None` where a backend lacks something. Another backend is another name in `SUPPORTED_BACKENDS`.
"""

import gc
import importlib
import os

SUPPORTED_BACKENDS = ("tensorflow", "jax")


def _raise_unsupported(name, source):
    raise ValueError(
        f"keras_svag supports the Keras backends {' and '.join(SUPPORTED_BACKENDS)}. "
        f"Received: backend={name!r} (from {source}). "
        "Set the environment variable KERAS_BACKEND to tensorflow or jax before importing Keras."
    )


def check_backend():
    """Returns the name of the Keras backend, or raises if it is not supported."""
    requested = os.environ.get("KERAS_BACKEND")
    if requested and requested not in SUPPORTED_BACKENDS:
        # Before importing Keras, which would only say that torch, for example, is missing.
        _raise_unsupported(requested, "the environment variable KERAS_BACKEND")
    # Imports create few objects that can be freed; looking for them takes a quarter of the time
    # that Keras and TensorFlow take to import.
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        import keras
    except ModuleNotFoundError as error:
        if requested and error.name == requested:
            raise ValueError(
                f"The Keras backend {requested!r} is not installed. Received: backend="
                f"{requested!r} (from the environment variable KERAS_BACKEND). Install it: pip "
                f"install 'keras-svag[{requested}]', or set KERAS_BACKEND to another backend."
            ) from None
        raise
    finally:
        if is_collecting:
            gc.enable()

    backend = keras.backend.backend()
    if backend not in SUPPORTED_BACKENDS:
        _raise_unsupported(backend, "keras.backend.backend()")
    return backend


def backend_module(package):
    """Imports the module of a package for the current backend, such as `<package>.jax`."""
    return importlib.import_module(f"{package}.{check_backend()}")
