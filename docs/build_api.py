"""Writes the API reference from the docstrings, as HTML; a warning is an error.

python -m docs.build_api build/docs
"""

import pathlib
import pkgutil
import sys
import warnings

import pdoc

import keras_svag

# Modules of one backend, behind those that users import.
HIDDEN = ("jax", "tensorflow")


def modules():
    """Names of all modules that have a page."""
    found = [info.name for info in pkgutil.walk_packages(keras_svag.__path__, "keras_svag.")]
    parts = {name: name.split(".") for name in ("keras_svag", *found)}
    return [
        name
        for name, words in parts.items()
        if words[-1] not in HIDDEN and not any(word.startswith("_") for word in words)
    ]


def build(folder, names):
    """Writes a page for each module.

    Args:
        folder: where the pages shall be.
        names: names of modules, or paths of files.

    Raises:
        UserWarning: if pdoc warns, of a module that cannot be imported or an annotation that it
            cannot read.
    """
    pdoc.render.configure(docformat="google")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module=r"pdoc\..*")
        # A function of the name of its module, such as `keras_svag.datasets.cifar10`.
        warnings.filterwarnings("ignore", message="The module specification .* already been added")
        for name in keras_svag.__all__:
            getattr(keras_svag, name)  # pdoc does not see what is loaded on first use
        pdoc.pdoc(*names, output_directory=pathlib.Path(folder))


if __name__ == "__main__":
    build(sys.argv[1], modules())
