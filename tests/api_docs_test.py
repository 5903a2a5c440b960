"""The API reference is built from the docstrings, with warnings as errors."""

import html
import importlib
import re

import pytest

import keras_svag

pytest.importorskip("pdoc")

from docs.build_api import build, modules  # noqa: E402


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("docs") / "api"
    build(folder, modules())
    return folder


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8")))


def first_line(value):
    """Of a docstring, up to what pdoc renders in another way."""
    return re.split(r"[`*]", value.__doc__.strip().splitlines()[0])[0]


def test_public_names_are_documented(reference):
    page = reference / "keras_svag.html"
    source, text = page.read_text("utf-8"), text_of(page)
    for name in set(keras_svag.__all__) - {"__version__"}:
        assert f'id="{name}"' in source, name
        assert first_line(getattr(keras_svag, name)) in text, name


def test_public_modules_have_a_page(reference):
    names = modules()
    assert {"keras_svag.callbacks", "keras_svag.datasets", "keras_svag.theory"} <= set(names)
    for name in names:
        page = reference / (name.replace(".", "/") + ".html")
        assert first_line(importlib.import_module(name)) in text_of(page), name


def test_no_page_of_what_is_private(reference):
    pages = {path.relative_to(reference).as_posix() for path in reference.rglob("*.html")}
    assert not [page for page in pages if "/_" in page or page.endswith("/jax.html")]


def test_a_warning_is_an_error(tmp_path):
    module = tmp_path / "broken_module.py"
    module.write_text('"""A module."""\n\nvalue: "no_such_name" = 1\n')
    with pytest.raises(UserWarning, match="no_such_name"):
        build(tmp_path / "out", [module])
