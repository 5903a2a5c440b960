"""Every example in a docstring and every Python block of README and guide runs."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest

import keras_svag

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_svag.__path__, "keras_svag.")
    # Nor what imports the other backend, which need not be installed.
    if "_bin" not in module.name
    and module.name.rpartition(".")[2] not in {"tensorflow", "jax"} - {keras.backend.backend()}
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    # The names that examples take for granted; what a module imports, it has.
    scope = {"keras": keras, "np": np, "keras_svag": keras_svag, **vars(module)}
    results = doctest.testmod(module, globs=scope)
    assert results.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    module = importlib.import_module("keras_svag.coefficients")
    assert sum(len(test.examples) for test in finder.find(module)) >= 4


@pytest.mark.parametrize("file", ["README.md", "docs/guide.md"])
def test_python_blocks(file, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / file).read_text("utf-8"), re.DOTALL)
    assert blocks
    scope = {"__name__": "example"}  # the blocks of a file are one script
    for block in blocks:
        exec(compile(block, file, "exec"), scope)


@pytest.mark.parametrize("file", ["README.md", "docs/guide.md"])
def test_named_files_are_there(file):
    text = (ROOT / file).read_text("utf-8")
    for target in re.findall(r"\]\(([^)h][^)]*)\)", text):
        assert ((ROOT / file).parent / target).exists(), target


def test_public_names_are_what_all_says():
    public = {
        name
        for name, value in vars(keras_svag).items()
        if not name.startswith("_") and not hasattr(value, "__path__")
    }
    modules = {name for name in public if type(getattr(keras_svag, name)).__name__ == "module"}
    assert public - modules - {"check_backend"} == set(keras_svag.__all__) - {"__version__"}
