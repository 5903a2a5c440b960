"""Python files as modules."""

import importlib.util
import pathlib
import sys


def import_file(name, file):
    """Executes a Python file as the module `name`, once, as a script of its folder would be."""
    if name in sys.modules:
        return sys.modules[name]
    folder = str(pathlib.Path(file).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
