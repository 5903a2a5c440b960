"""Canonical forms of functions and objects, which identify a recipe in every process.

A function is its source without comments, layout and docstrings, together
with its closure, defaults and the globals of its module that it uses; an object is its class with
its config or attributes.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import textwrap
import types

import keras
import numpy as np

# Their functions and classes are identified by name: they change only with the package version.
KNOWN_PACKAGES = ("builtins", "jax", "keras", "keras_svag", "numpy", "scipy", "tensorflow")
# Attributes with names that Keras generates by counting objects.
GENERATED_NAMES = ("name", "_name", "_auto_name", "_path")
SCALARS = (str, bytes, int, float, complex, bool, type(None), type(...))
CONTAINERS = (list, tuple, dict)
VALUES = (*SCALARS, *CONTAINERS, np.ndarray, np.generic)


def short_digest(text):
    """Twelve hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:12]


def has_own_source(value):
    """Returns True for the user's functions and classes, which are identified by their source."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] not in KNOWN_PACKAGES


def canonical_form(value, parents=()):
    """Returns scalars, lists and dicts that identify a value; `parents` guards against cycles."""
    if isinstance(value, SCALARS):
        return value
    if id(value) in parents:
        return "itself"
    parents = (*parents, id(value))
    if isinstance(value, (list, tuple)):
        return [canonical_form(item, parents) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((canonical_form(item, parents) for item in value), key=str)
    if isinstance(value, dict):
        items = sorted(value.items(), key=str)
        return {str(key): canonical_form(item, parents) for key, item in items}
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type):
        if not has_own_source(value):
            return _dotted_name(value)
        return [value.__qualname__, _source(value, parents)]
    if isinstance(value, functools.partial):
        return canonical_form([value.func, value.args, value.keywords], parents)
    if isinstance(value, types.CodeType):
        return canonical_form([value.co_code.hex(), value.co_names, value.co_consts], parents)
    array = _as_array(value)
    if array is not None and array.dtype.hasobject:
        return canonical_form(array.tolist(), parents)
    if array is not None:
        digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:12]
        return [str(array.dtype), list(array.shape), digest]
    return _function(value, parents) if _is_function(value) else _object(value, parents)


def without_names(config):
    """Drops the names that Keras generates, and dtype policies, from a config."""
    if isinstance(config, dict):
        return {k: without_names(v) for k, v in config.items() if k not in ("name", "dtype")}
    return [without_names(item) for item in config] if isinstance(config, list) else config


def _as_array(value):
    if not hasattr(value, "__array__"):
        return None
    try:
        return np.asarray(value)
    except Exception:  # a symbolic tensor
        return None


def _is_function(value):
    # Jitted functions have `__wrapped__` instead of code.
    return hasattr(value, "__code__") or hasattr(value, "__wrapped__") or inspect.isbuiltin(value)


def _dotted_name(value):
    return f"{value.__module__}.{value.__qualname__}"


def _function(function, parents):
    if not hasattr(function, "__code__"):
        wrapped = getattr(function, "__wrapped__", None)
        return function.__qualname__ if wrapped is None else canonical_form(wrapped, parents)
    parts = [_source(function, parents) if has_own_source(function) else _dotted_name(function)]
    owner = getattr(function, "__self__", None)  # of a method
    parts += [] if owner is None else [canonical_form(owner, parents)]
    for cell in function.__closure__ or ():
        try:
            parts.append(canonical_form(cell.cell_contents, parents))
        except ValueError:  # not assigned yet
            parts.append("empty")
    return [*parts, *canonical_form([function.__defaults__, function.__kwdefaults__], parents)]


def _object(value, parents):
    cls = type(value)
    parts = [canonical_form(cls, parents)]
    has_config = callable(getattr(value, "get_config", None))
    if has_config:
        try:
            parts.append(without_names(canonical_form(value.get_config(), parents)))
        except Exception:  # not implemented, or not for these arguments
            parts.append("no config")
    elif dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name, None) for field in dataclasses.fields(value)]
        return [*parts, *canonical_form(fields, parents)]
    if isinstance(value, keras.Layer):
        # Weights can be missing in the config, such as those of `Normalization.adapt`.
        parts.append(canonical_form(list(value.weights), parents))
    elif has_own_source(cls) or not has_config:
        # The config of a user's class may lack arguments; those of Keras are complete.
        parts.append(_attributes(value, has_config, parents))
    return parts


def _attributes(value, has_config, parents):
    """Values, functions and dataclasses among an object's attributes; the rest may be caches."""
    kept = {}
    for name, item in getattr(value, "__dict__", {}).items():
        # Keras keeps variables and counted names in private containers.
        is_of_keras = has_config and name[0] == "_" and isinstance(item, CONTAINERS)
        if name in GENERATED_NAMES or is_of_keras:
            continue
        if isinstance(item, VALUES) or _is_function(item) or dataclasses.is_dataclass(item):
            kept[name] = canonical_form(item, parents)
    return kept


def _source(target, parents):
    """Normalized source (else the bytecode) of a function or class, with the globals it uses."""
    functions = vars(target).values() if isinstance(target, type) else [target]
    functions = [function for function in functions if hasattr(function, "__code__")]
    used = _used_globals(functions, parents)
    try:
        source = textwrap.dedent(inspect.getsource(target))
    except (OSError, TypeError):  # defined in a console or by `exec`
        return [canonical_form([function.__code__ for function in functions], parents), used]
    try:
        return [ast.unparse(_without_docstrings(ast.parse(source))), used]
    except SyntaxError:  # a lambda inside a statement
        return [source, used]


def _without_docstrings(module):
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return module


def _used_globals(functions, parents):
    """Values, functions and classes of their own module that functions refer to by name."""
    found = {}
    for function in functions:
        module = function.__globals__
        for name in sorted(_names(function.__code__) & module.keys()):
            value = module[name]
            is_code = isinstance(value, (types.FunctionType, type, functools.partial))
            is_own = is_code and getattr(value, "__module__", None) == module["__name__"]
            if isinstance(value, VALUES) or is_own:
                found[name] = canonical_form(value, parents)
    return found


def _names(code):
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))
