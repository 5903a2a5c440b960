"""Builds the API reference of the public modules as HTML; warnings are errors.

python -m docs.build_api build/docs
"""

import pathlib
import sys
import warnings
from unittest import mock

import pdoc

import keras_svag

# Public modules of the package. A page shows what the `__all__` of its module exports.
MODULES = ("callbacks", "datasets", "models", "noise", "optimizers", "studies", "theory")


def build(folder, module="keras_svag"):
    """Writes the pages of a module or file; raises a `UserWarning` if pdoc warns."""
    pdoc.render.configure(docformat="google")
    # Files of the package behind its public modules.
    internal = rf"!keras_svag\.(?!({'|'.join(MODULES)})$)"
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module=r"pdoc\..*")
        for name in keras_svag.__all__:
            getattr(keras_svag, name)  # pdoc does not see lazily imported names
        # pdoc finds the submodules that are in `__all__`, and no others.
        with mock.patch.object(keras_svag, "__all__", [*keras_svag.__all__, *MODULES]):
            pdoc.pdoc(module, internal, output_directory=pathlib.Path(folder))


if __name__ == "__main__":
    build(sys.argv[1])
