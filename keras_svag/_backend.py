"""The one place that asks for the Keras backend, before all else of the package is imported.

What only a backend can say stands in modules of its name: a package has `tensorflow.py` and
`jax.py` with the same names in them, `None` where a backend lacks something. Another backend is
another name in `SUPPORTED_BACKENDS` and a module of that name in each of these packages.
"""

import gc
import importlib
import os

SUPPORTED_BACKENDS = ("tensorflow", "jax")


def _refuse(name, source):
    raise ValueError(
        f"keras_svag needs one of the Keras backends {' and '.join(SUPPORTED_BACKENDS)}. "
        f"Received: backend={name!r} (from {source}). "
        "Set the environment variable KERAS_BACKEND=tensorflow, or KERAS_BACKEND=jax, before Keras "
        "is imported."
    )


def check_backend():
    """Returns the name of the Keras backend, or raises if the package cannot run on it.

    Raises:
        ValueError: if the backend is not one of `SUPPORTED_BACKENDS`.
    """
    requested = os.environ.get("KERAS_BACKEND")
    if requested and requested not in SUPPORTED_BACKENDS:
        # Before Keras is imported: its own error would only say that, say, torch is missing.
        _refuse(requested, "the environment variable KERAS_BACKEND")
    # Nearly all that an import makes stays. Looking through it for garbage, over and over, takes a
    # quarter of the time that Keras and TensorFlow take to import.
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        import keras
    finally:
        if is_collecting:
            gc.enable()

    backend = keras.backend.backend()
    if backend not in SUPPORTED_BACKENDS:
        _refuse(backend, "keras.backend.backend()")
    return backend


def backend_module(package):
    """Imports the module of a package that is about the Keras backend in use.

    Args:
        package: name of the package, such as `__package__`.

    Returns:
        The module `<package>.tensorflow` or `<package>.jax`.
    """
    return importlib.import_module(f"{package}.{check_backend()}")
