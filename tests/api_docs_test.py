"""The API reference shows the public modules and no others; warnings are errors."""

import html
import importlib
import re

import pytest

import keras_svag

pytest.importorskip("pdoc")

from docs.build_api import MODULES, build  # noqa: E402

PUBLIC = ("keras_svag", *(f"keras_svag.{name}" for name in MODULES))


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The folder of the pages."""
    folder = tmp_path_factory.mktemp("docs") / "api"
    build(folder)
    return folder


def page_of(reference, name):
    return reference / (name.replace(".", "/") + ".html")


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text("utf-8")))


def first_line(value):
    """First line of a docstring, up to Markdown that pdoc renders."""
    return re.split(r"[`*]", value.__doc__.strip().splitlines()[0])[0]


def test_public_names_are_documented(reference):
    page = page_of(reference, "keras_svag")
    source, text = page.read_text("utf-8"), text_of(page)
    for name in set(keras_svag.__all__) - {"__version__"}:
        assert f'id="{name}"' in source, name
        assert first_line(getattr(keras_svag, name)) in text, name


@pytest.mark.parametrize("name", PUBLIC)
def test_public_modules_have_a_page(reference, name):
    module, page = importlib.import_module(name), page_of(reference, name)
    assert first_line(module) in text_of(page)
    source = page.read_text("utf-8")
    assert not [name for name in module.__all__ if f'id="{name}"' not in source]


def test_only_public_modules_have_a_page(reference):
    pages = set(reference.rglob("*.html")) - {reference / "index.html"}
    assert pages == {page_of(reference, name) for name in PUBLIC}


def test_modules_are_linked(reference):
    links = re.findall(
        r'href="keras_svag/(\w+)\.html"', page_of(reference, "keras_svag").read_text("utf-8")
    )
    assert set(links) >= set(MODULES)


def test_a_warning_is_an_error(tmp_path):
    module = tmp_path / "broken_module.py"
    module.write_text('"""A module."""\n\nvalue: "no_such_name" = 1\n')
    with pytest.raises(UserWarning, match="no_such_name"):
        build(tmp_path / "out", module)
