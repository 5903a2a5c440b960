"""The package as published: links on PyPI, supported Pythons, purposes of dependencies."""

import pathlib
import re
import runpy
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]


def read(file):
    return (ROOT / file).read_text("utf-8")


@pytest.fixture(scope="module")
def metadata():
    """The arguments of `setup`, without running setuptools, which need not be installed."""
    found = {}
    stub = types.ModuleType("setuptools")
    stub.setup, stub.find_packages = found.update, lambda include: list(include)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "setuptools", stub)
        runpy.run_path(str(ROOT / "setup.py"))
    return found


def test_links_on_pypi_lead_to_files_of_this_version(metadata):
    targets = re.findall(r"\]\(([^)]*)\)", metadata["long_description"])
    # As many as in the README, where those to files are relative.
    assert len(targets) == len(re.findall(r"\]\([^)]*\)", read("README.md"))) > 10
    start = re.compile(
        r"https://[\w.]+/keras-svag/keras-svag/(?:blob/)?v" + metadata["version"] + "/"
    )
    files = [start.sub("", target) for target in targets if start.match(target)]
    assert sorted(files) == sorted(
        target for target in re.findall(r"\]\(([^)]*)\)", read("README.md")) if "://" not in target
    )
    assert all((ROOT / file).exists() for file in files)
    assert not [target for target in targets if not target.startswith("https://")]


def test_images_on_pypi_are_images(metadata):
    # A page of GitHub around an image would not be shown.
    images = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", metadata["long_description"])
    assert images and all(url.startswith("https://raw.githubusercontent.com/") for url in images)


def test_blocks_of_code_are_those_of_the_readme(metadata):
    blocks = [
        re.findall(r"^```.*?^```$", text, re.DOTALL | re.MULTILINE)
        for text in (metadata["long_description"], read("README.md"))
    ]
    assert blocks[0] == blocks[1]


def test_pythons_are_those_that_are_tested(metadata):
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(metadata["classifiers"]))
    matrices = re.findall(r"python: \[(.*)\]", read(".github/workflows/tests.yml"))
    assert [re.findall(r"3\.\d+", matrix) for matrix in matrices] == [named, named]
    assert metadata["python_requires"] == f">={named[0]}"


def test_the_address_is_one(metadata):
    addresses = {
        file: set(re.findall(r"github\.com/([\w-]+/[\w-]+)", read(file)))
        for file in ("mkdocs.yml", ".github/ISSUE_TEMPLATE/config.yml")
    }
    addresses["setup.py"] = {metadata["url"].removeprefix("https://github.com/")}
    assert set.union(*addresses.values()) == {"keras-svag/keras-svag"}
    assert "repository is `keras-svag/keras-svag`" in read("RELEASE.md")


def test_dependencies_have_a_purpose(metadata):
    needed = [*metadata["install_requires"], *sum(metadata["extras_require"].values(), [])]
    names = {re.match(r"[\w.-]+", text)[0] for text in needed}
    section = read("CONTRIBUTING.md").partition("## Dependencies")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert names == {name for row in rows for name in re.findall(r"[\w.-]+", row)} & names
    extras = set(re.findall(r"`([\w-]+)`", "\n".join(row.split("|")[1] for row in rows)))
    assert extras == metadata["extras_require"].keys()


def test_types_are_published(metadata):
    assert "py.typed" in metadata["package_data"]["keras_svag"]
    assert (ROOT / "keras_svag" / "py.typed").is_file()
