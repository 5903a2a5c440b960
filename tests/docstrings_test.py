"""Docstrings: complete for the public API, with an example, and one line for the rest."""

import ast
import dataclasses
import importlib
import inspect
import math
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_svag"
# What the API reference shows: the `__all__` of these modules.
PUBLIC_MODULES = (
    "keras_svag",
    "keras_svag.callbacks",
    "keras_svag.datasets",
    "keras_svag.models",
    "keras_svag.noise",
    "keras_svag.optimizers",
    "keras_svag.studies",
    "keras_svag.theory",
)
INDIRECT = {"What", "Whether", "Which", "How", "Who", "Where", "If"}
SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$", re.MULTILINE)


def public_objects():
    """The classes and functions of the public API, by their qualified names."""
    found = {}
    for name in PUBLIC_MODULES:
        module = importlib.import_module(name)
        for export in module.__all__:
            value = getattr(module, export)
            if inspect.isclass(value) or inspect.isfunction(value):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


PUBLIC = public_objects()
OWN = {name: value for name, value in PUBLIC.items() if name.startswith("keras_svag.")}


def sections(docstring):
    """The sections of a Google-style docstring: a dict from title to its indented text."""
    parts = re.split(r"^(\w+):\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2]))


def is_record(value):
    """Whether a class only carries results: its fields are documented as attributes."""
    return dataclasses.is_dataclass(value) and "Attributes" in sections(value.__doc__)


def documented_arguments(value):
    """A dict from argument name to its description; a subclass adds to what its bases say."""
    found = {}
    for base in reversed(inspect.getmro(value)) if inspect.isclass(value) else [value]:
        if base is value or f"{base.__module__}.{base.__qualname__}" in PUBLIC:
            titles = sections(base.__doc__ or "")
            text = titles.get("Args", titles.get("Attributes", ""))
            parts = re.split(r"^ {4}\*{0,2}(\w+): ", text, flags=re.MULTILINE)
            found |= dict(zip(parts[1::2], parts[2::2]))
    return found


def parameters(value):
    parameters = inspect.signature(value).parameters.values()
    return [p for p in parameters if p.name != "self" and not p.name.startswith("_")]


@pytest.mark.parametrize("name", OWN)
def test_arguments_are_those_of_the_signature(name):
    given = parameters(OWN[name])
    documented = documented_arguments(OWN[name])
    named = [p.name for p in given if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    variadic = {p.name for p in given} - set(named)
    assert sorted(documented.keys() - variadic) == sorted(named)


@pytest.mark.parametrize("name", [name for name in OWN if not is_record(OWN[name])])
def test_defaults_are_stated(name):
    documented = documented_arguments(OWN[name])
    optional = [p.name for p in parameters(OWN[name]) if p.default is not p.empty]
    silent = [n for n in optional if "Defaults to" not in " ".join(documented[n].split())]
    assert silent == []


@pytest.mark.parametrize("name", [name for name in OWN if not is_record(OWN[name])])
def test_stated_defaults_are_those_of_the_signature(name):
    documented, differing = documented_arguments(OWN[name]), {}
    for parameter in parameters(OWN[name]):
        text = " ".join(documented[parameter.name].split())
        stated = re.search(r"Defaults to `([^`]*)`", text)
        # Some are stated in words, such as powers of 2.
        if parameter.default is not parameter.empty and stated:
            if eval(stated[1], {"sqrt": math.sqrt}) != parameter.default:
                differing[parameter.name] = (parameter.default, stated[1])
    assert differing == {}


@pytest.mark.parametrize("name", OWN)
def test_arrays_have_a_shape(name):
    documented = documented_arguments(OWN[name])
    arrays = {n: text for n, text in documented.items() if re.match(r"\W*(\w+ )?arrays?\b", text)}
    assert [n for n, text in arrays.items() if not re.search(r"shape|\(|length|long", text)] == []


def needs_example(value):
    return not is_record(value) and not (inspect.isclass(value) and issubclass(value, Exception))


@pytest.mark.parametrize("name", [name for name in OWN if needs_example(OWN[name])])
def test_has_an_example(name):
    """tests/docs_test.py runs it."""
    assert ">>> " in OWN[name].__doc__


def documented_nodes():
    """All docstrings of the package: `(place, node, docstring, is_public)`."""
    # A public class' methods count as public, those of its private bases do not.
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        module = module.removesuffix(".__init__")

        def walk(node, prefix, is_public, path=path):
            for child in ast.iter_child_nodes(node):
                if not isinstance(child, (ast.ClassDef, ast.FunctionDef)):
                    continue
                name = f"{prefix}.{child.name}"
                public = name in PUBLIC or is_public and not child.name.startswith("_")
                docstring = ast.get_docstring(child)
                if docstring:
                    yield f"{path.relative_to(PACKAGE)}:{child.name}", child, docstring, public
                yield from walk(child, name, public and isinstance(child, ast.ClassDef))

        yield from walk(ast.parse(path.read_text(encoding="utf-8")), module, False)


def test_first_words():
    """A docstring begins with what the thing does or is, not with an indirect question."""
    nodes = documented_nodes()
    assert [place for place, _, text, _ in nodes if text.split()[0].strip("`,.") in INDIRECT] == []


def test_internal_functions_have_one_line():
    long = [
        place
        for place, node, text, is_public in documented_nodes()
        if not is_public and isinstance(node, ast.FunctionDef) and "\n" in text
    ]
    assert long == []


def test_sections_are_for_the_public():
    nodes = documented_nodes()
    assert [place for place, _, text, public in nodes if not public and SECTION.search(text)] == []
