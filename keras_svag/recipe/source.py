"""Recipes from files, `my_file.py:make_recipe`."""

import importlib.util
import os
import pathlib
import sys
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from typing import cast

from keras_svag._checks import error_text
from keras_svag.recipe.recipe import Recipe


def load_recipe(text):
    """Executes `"file.py:function"`, as a script would be, and returns its recipe."""
    file, colon, name = str(text).rpartition(":")
    path = pathlib.Path(os.path.expanduser(file))
    is_file = os.path.isfile(path)  # False too for what cannot be a path
    if not colon or not name.isidentifier() or not is_file:
        raise ValueError(
            "`recipe` must be FILE.py:FUNCTION, where the function takes no arguments and returns "
            f"a keras_svag.Recipe. Received: recipe={text!r}"
            + ("" if is_file else f"; there is no file {file or text!r}.")
        )
    path = path.resolve()
    module_name = f"keras_svag_recipe_{path.stem}"
    try:
        module = import_file(module_name, path)
    except Exception as error:
        raise _failed(text, f"executing {path.name}", error) from error
    make = getattr(module, name, None)
    if not callable(make):
        functions = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise ValueError(
            f"`recipe` must name a function of {path.name}. Received: recipe={text!r}; it defines "
            f"{', '.join(functions) or 'none'}."
        )
    try:
        recipe = make()
    except Exception as error:
        raise _failed(text, f"{name}()", error) from error
    if not isinstance(recipe, Recipe):
        raise ValueError(
            f"`recipe` must name a function that returns a keras_svag.Recipe. Received: "
            f"recipe={text!r}, which returned {type(recipe).__name__}"
        )
    recipe.source = f"{path.name}:{name}"
    recipe.modules = ((module_name, str(path)),)
    return recipe


def _failed(text, action, error):
    return ValueError(
        "`recipe` must name a function that returns a keras_svag.Recipe. Received: "
        f"recipe={text!r}, where {action} raised {error_text(error)}"
    )


def import_file(name, file):
    """Imports a Python file once as module `name`, with its folder on `sys.path`."""
    if name in sys.modules:
        return sys.modules[name]
    folder = str(pathlib.Path(file).resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(cast(ModuleSpec, spec))
    sys.modules[name] = module
    try:
        cast(Loader, cast(ModuleSpec, spec).loader).exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
