"""The version of the package, which setup.py reads from this file, and those of others."""

import functools
import importlib.metadata
import platform

__version__ = "0.1.0"

_PACKAGES = ("tensorflow", "tensorflow-cpu", "jax", "jaxlib")  # by the backend they begin with


def backend_versions(backend):
    """Versions of what runs are made with under a Keras backend, by name."""
    return package_versions(
        ("keras", "numpy", *(name for name in _PACKAGES if name.startswith(backend)))
    )


@functools.cache
def package_versions(packages):
    """Versions of Python, this package and the installed ones of others, by name."""
    found = {"python": platform.python_version(), "keras_svag": __version__}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def merge_versions(old, new):
    """Versions of a run that goes on under others, such as "3.14.0, 3.15.1" for a package."""
    pairs = {name: [v[name].split(", ") for v in (old, new) if name in v] for name in old | new}
    return {name: ", ".join(dict.fromkeys(sum(parts, []))) for name, parts in pairs.items()}
