"""Tests of keras_svag/_backend.py: it rejects other backends, and it alone chooses one."""

import ast
import gc
import os
import pathlib
import subprocess
import sys

import keras
import pytest

import keras_svag
from keras_svag._backend import SUPPORTED_BACKENDS, backend_module, check_backend
from tests.backends import run_code

PACKAGE = pathlib.Path(keras_svag.__file__).parent
CHOOSER = "_backend.py"
# Modules that may name the backend: in records, in an error message.
MENTIONS = {
    CHOOSER,
    "distribution/peers.py",
    "engine/execution.py",
    "engine/processes/call.py",
    "engine/state.py",
    "engine/vmap_seeds.py",
    "recipe/recipe.py",
    "studies/base/workdir.py",
}
# Packages with something that one backend alone needs, which its own modules import.
ONE_BACKEND = {"xla_policy": {"tensorflow"}, "datasets/growing": {"tensorflow"}}
# For tf.data, which JAX reads too.
ANY_BACKEND = "datasets/growing/__init__.py"


@pytest.mark.parametrize("backend", ["torch", "no_such_backend"])
def test_backend_of_the_environment_is_refused_on_import(backend):
    # Before Keras is imported, which would only say that, say, torch is not installed.
    code = (
        "import sys\n"
        "try:\n"
        "    import keras_svag\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "    print('keras' in sys.modules)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    message, keras_imported = done.stdout.splitlines()
    assert f"Received: backend='{backend}' (from the environment variable KERAS_BACKEND)" in message
    assert "Set the environment variable KERAS_BACKEND to tensorflow or jax" in message
    assert keras_imported == "False"


def test_backend_of_the_keras_config_file_is_refused(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"Received: backend='torch' \(from keras.backend"):
        check_backend()


def test_backend_of_the_tests_is_accepted(monkeypatch):
    backend = keras.backend.backend()
    for requested in (backend, ""):
        monkeypatch.setenv("KERAS_BACKEND", requested)
        assert check_backend() == backend


def test_no_garbage_is_collected_while_keras_is_imported():
    code = (
        "import gc, sys\n"
        "during = []\n"
        "def note(phase, info):\n"
        "    keras = sys.modules.get('keras')\n"
        "    during.append(keras is not None and keras.__spec__._initializing)\n"
        "gc.callbacks.append(note)\n"
        "import keras_svag\n"
        "print(len(during) > 0, any(during), gc.isenabled())\n"
    )
    assert run_code(code, backend=keras.backend.backend()).split() == ["True", "False", "True"]


def test_collection_stays_off_where_it_was_off():
    assert gc.isenabled()
    gc.disable()
    try:
        check_backend()
        assert not gc.isenabled()
    finally:
        gc.enable()


def sources():
    """Path and syntax tree of each module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), ast.parse(path.read_text("utf-8"))


def called(node):
    return ast.unparse(node.func) if isinstance(node, ast.Call) else None


def test_one_module_chooses_the_backend():
    choosers, tellers, comparers = set(), set(), set()
    for path, tree in sources():
        for node in ast.walk(tree):
            if called(node) == "check_backend":
                choosers.add(path.as_posix())
            if called(node) == "keras.backend.backend":
                tellers.add(path.as_posix())
            # Of `name == "jax"`, `name in ("jax",)`, `case "jax":` and `{"jax": ...}`, none.
            if isinstance(node, (ast.Compare, ast.MatchValue, ast.Dict)):
                words = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                if words & set(SUPPORTED_BACKENDS):
                    comparers.add(path.as_posix())
    assert choosers == {CHOOSER, "__init__.py"}  # on import, to refuse others
    assert tellers == MENTIONS
    assert comparers == set()


def test_only_modules_of_a_backend_import_it():
    for path, tree in sources():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in names:
                first, last = name.split(".")[0], name.split(".")[-1]
                backends = {first, last} & set(SUPPORTED_BACKENDS)
                is_allowed = backends <= {path.stem} or path.as_posix() == ANY_BACKEND
                assert is_allowed, f"{path} imports {name}"


def test_backends_have_the_same_names():
    """What is used of the module of a backend must be in that of each."""
    used, defined = {}, {}
    for path, tree in sources():
        package = path.parent.as_posix()
        if path.stem in SUPPORTED_BACKENDS:
            defined.setdefault(package, {})[path.stem] = names_of(tree)
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "backend":
                    used.setdefault(package, set()).add(node.attr)
            elif isinstance(node, ast.Attribute) and called(node.value) == "backend_module":
                (argument,) = node.value.args
                if isinstance(argument, ast.Constant):
                    package_used = argument.value.partition(".")[2].replace(".", "/")
                else:
                    package_used = package
                used.setdefault(package_used, set()).add(node.attr)
    assert {p: set(d) for p, d in defined.items() if set(d) != set(SUPPORTED_BACKENDS)} == (
        ONE_BACKEND
    )
    assert set(used) == set(defined) - set(ONE_BACKEND)
    for package, names in used.items():
        for backend, found in defined[package].items():
            assert names <= found, (package, backend)


def names_of(tree):
    """The names that a module defines or imports at its top level."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_module_of_the_backend():
    name = keras.backend.backend()
    assert backend_module("keras_svag.device_loop").__name__ == f"keras_svag.device_loop.{name}"
