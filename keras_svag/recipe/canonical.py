"""Values whose text is the same in every process, and another one where they do something else."""

import ast
import dataclasses
import functools
import hashlib
import inspect
import textwrap
import types

import keras
import numpy as np

# What these packages hold is known by its name: it changes with their versions alone.
KNOWN_PACKAGES = ("builtins", "jax", "keras", "keras_svag", "numpy", "scipy", "tensorflow")
# Keras makes up names for objects and counts them.
NAMES = ("name", "_name", "_auto_name", "_path")
SCALARS = (str, bytes, int, float, complex, bool, type(None), type(...))


def short_digest(text):
    """Twelve hexadecimal digits that stand for a text."""
    return hashlib.sha256(str(text).encode()).hexdigest()[:12]


def has_own_source(value):
    """Whether a function or class is the user's, so that its name does not say what it does."""
    return (getattr(value, "__module__", None) or "").partition(".")[0] not in KNOWN_PACKAGES


def plain(value, seen=()):
    """Scalars, lists and dicts with the text that tells a value from others.

    Args:
        value: anything. Of functions the source counts, what they enclose, their defaults and
            what they use of their module; of objects the class and the attributes.
        seen: ids of what it is a part of, for recursion.

    Returns:
        Scalars, lists and dicts of them.
    """
    if isinstance(value, SCALARS):
        return value
    if id(value) in seen:
        return "itself"
    seen = (*seen, id(value))
    if isinstance(value, (list, tuple)):
        return [plain(item, seen) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, seen) for item in value), key=str)
    if isinstance(value, dict):
        return {str(key): plain(item, seen) for key, item in sorted(value.items(), key=str)}
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type):
        return [value.__qualname__, _source(value, seen)] if has_own_source(value) else _path(value)
    if isinstance(value, functools.partial):
        return [plain(part, seen) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.CodeType):
        parts = (value.co_code.hex(), value.co_names, value.co_consts)
        return [plain(part, seen) for part in parts]
    array = _as_array(value)
    if array is not None:
        return [str(array.dtype), list(array.shape), _digest_of_array(array)]
    return _function(value, seen) if _is_function(value) else _object(value, seen)


def without_names(config):
    """A config without what Keras makes up anew for each object."""
    if isinstance(config, dict):
        return {k: without_names(v) for k, v in config.items() if k not in ("name", "dtype")}
    return [without_names(item) for item in config] if isinstance(config, list) else config


def _as_array(value):
    if not hasattr(value, "__array__"):
        return None
    try:
        return np.asarray(value)
    except Exception:  # a tensor without values
        return None


def _digest_of_array(array):
    if array.dtype.hasobject:
        return short_digest(array.tolist())
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:12]


def _is_function(value):
    # Jitted functions have no code of their own.
    return hasattr(value, "__code__") or hasattr(value, "__wrapped__") or inspect.isbuiltin(value)


def _path(value):
    return f"{value.__module__}.{value.__qualname__}"


def _function(function, seen):
    if not hasattr(function, "__code__"):
        wrapped = getattr(function, "__wrapped__", None)
        return plain(wrapped, seen) if wrapped is not None else function.__qualname__
    parts = [_source(function, seen) if has_own_source(function) else _path(function)]
    owner = getattr(function, "__self__", None)  # of a method
    parts += [] if owner is None else [plain(owner, seen)]
    for cell in function.__closure__ or ():
        try:
            parts.append(plain(cell.cell_contents, seen))
        except ValueError:  # empty
            parts.append("empty")
    return [*parts, *(plain(v, seen) for v in (function.__defaults__, function.__kwdefaults__))]


def _object(value, seen):
    cls = type(value)
    parts = [plain(cls, seen)]
    if callable(getattr(value, "get_config", None)):
        try:
            parts.append(without_names(plain(value.get_config(), seen)))
        except Exception:  # not every class has one that works
            parts.append("no config")
        if isinstance(value, keras.Layer):
            # Of weights that are not in the config, such as those of `Normalization.adapt`.
            return [*parts, plain(list(value.weights), seen)]
        # Keras' own have all in their config; else, what `__init__` kept.
        return [*parts, _attributes(value, seen)] if has_own_source(cls) else parts
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return [*parts, *(plain(getattr(value, name, None), seen) for name in fields)]
    return [*parts, _attributes(value, seen)]


def _attributes(value, seen):
    """Numbers, texts, arrays, lists and functions of an object: what else there is may change."""
    kept = {}
    for name, item in getattr(value, "__dict__", {}).items():
        is_list = isinstance(item, (list, tuple, dict))
        # There Keras keeps names that it counts, and variables.
        is_of_keras = hasattr(value, "get_config") and (name[0] == "_" and is_list)
        is_value = is_list or isinstance(item, (*SCALARS, np.ndarray, np.generic))
        if name in NAMES or is_of_keras:
            continue
        if is_value or _is_function(item) or dataclasses.is_dataclass(item):
            kept[name] = plain(item, seen)
    return kept


def _source(target, seen):
    """Text of a function or class, and what it uses of its module."""
    function = getattr(target, "__func__", target)
    used = _used_globals(function, seen)
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):  # no file: a console, or text that was executed
        parts = vars(function).values() if isinstance(function, type) else (function,)
        codes = [part.__code__ for part in parts if hasattr(part, "__code__")]
        return [plain(codes, seen), used]
    try:
        return [ast.unparse(_without_docstrings(ast.parse(source))), used]
    except SyntaxError:  # a lambda in the middle of a statement
        return [source, used]


def _without_docstrings(module):
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return module


def _used_globals(target, seen):
    """Numbers, lists, arrays, functions and classes of their module that functions use by name."""
    parts = vars(target).values() if isinstance(target, type) else (target,)
    found = {}
    for function in parts:
        if not hasattr(function, "__code__"):
            continue
        module = function.__globals__
        for name in sorted(_names(function.__code__) & module.keys()):
            value = module[name]
            is_value = isinstance(value, (*SCALARS, list, tuple, dict, np.ndarray))
            is_code = isinstance(value, (types.FunctionType, type, functools.partial))
            if is_value or (is_code and getattr(value, "__module__", None) == module["__name__"]):
                found[name] = plain(value, seen)
    return found


def _names(code):
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))
