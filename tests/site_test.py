"""The site of the documentation: built strictly, without dead links, with all that is public."""

import html
import importlib
import inspect
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

import pytest

from tests.docstrings_test import PUBLIC_MODULES

pytest.importorskip("material", reason="builds the site; needs the extra [docs]")
pytest.importorskip("mkdocstrings", reason="builds the site; needs the extra [docs]")

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def page_of(site, module):
    name = module.partition(".")[2]
    return (site / "api" / name / "index.html").read_text("utf-8")


def text_of(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", page)).split())


def first_words(value):
    """The docstring up to its first Markdown."""
    return " ".join(re.split(r"[`*]", inspect.cleandoc(value.__doc__).splitlines()[0])[0].split())


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_public_names_are_documented(site, module):
    page, exported = page_of(site, module), importlib.import_module(module)
    text = text_of(page)
    assert first_words(exported) in text
    headings = {ref.rpartition(".")[2] for ref in re.findall(r'<h\d id="(keras_svag[^"]*)"', page)}
    for name in set(exported.__all__) - {"__version__"}:
        value = getattr(exported, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert name in headings and first_words(value) in text, name
        else:  # in the table of constants
            assert f"<code>{name}</code>" in page, name


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_nothing_else_is_documented(site, module):
    exported = {*importlib.import_module(module).__all__, "constants"}
    # A heading of level 2 is a name, what lies below belongs to it.
    headings = re.findall(r'<h2 id="([^"]*)"', page_of(site, module))
    assert headings and {ref.rpartition(".")[2] for ref in headings} <= exported
    assert not re.search(r'<h\d id="[^"]*\._[^"]*"', page_of(site, module))


def test_examples_are_code(site):
    for module in PUBLIC_MODULES:
        page = page_of(site, module)
        assert "&gt;&gt;&gt;" in page or module == "keras_svag.models"
        rest = re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)
        # What Markdown makes of `>>>` on its own.
        assert "<blockquote>" not in rest and "&gt;&gt;&gt;" not in rest, module


def test_notebook_is_a_page(site):
    page = (site / "how_large_a_batch" / "index.html").read_text("utf-8")
    assert "<!-- notebook" not in page and "pip install" not in text_of(page)
    assert 'src="data:image/png;base64,' in page and "learning rate for batches of" in page


def test_links_lead_somewhere(site):
    pages = {path: path.read_text("utf-8") for path in site.rglob("*.html")}
    anchors = {path: set(re.findall(r'\bid="([^"]*)"', page)) for path, page in pages.items()}
    dead = []
    for path, page in pages.items():
        for link in re.findall(r'\b(?:href|src)="([^"]*)"', page):
            url = urllib.parse.urlsplit(html.unescape(link))
            if url.scheme or url.netloc or path.name == "404.html":  # its links are absolute
                continue
            target = (path.parent / urllib.parse.unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or url.fragment and url.fragment not in anchors.get(target, ""):
                dead.append((path.relative_to(site).as_posix(), link))
    assert dead == []


@pytest.mark.parametrize(
    "word, place",
    [
        ("BatchSizeAdvisor", "api/callbacks/"),
        ("scaled_noise", "files/"),
        ("mlflow", "trackers/"),
        ("SIGTERM", "faults/"),
    ],
)
def test_search_finds(site, word, place):
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    assert [d for d in index["docs"] if word in d["text"] and d["location"].startswith(place)]


def test_nothing_is_loaded_from_elsewhere(site):
    """The site works without network; links to other sites are for readers to follow."""
    for path in site.rglob("*.html"):
        page = path.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]*)"', page)
        loaded += re.findall(r'<link rel="stylesheet" href="([^"]*)"', page)
        assert not [url for url in loaded if "://" in url or url.startswith("//")], path
        assert 'data-md-component="source"' not in page  # whose script asks GitHub for stars
