"""`Result`: verdict, table, figures in several formats, report, and its display in a notebook."""

import csv
import html
import io

import matplotlib
import pytest
from matplotlib.figure import Figure

from keras_svag.studies import load
from tests.studies.helpers import files_of

MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}


@pytest.fixture(scope="module")
def result(finished):
    return finished[1]


def test_plot(result):
    assert result.figures == ["convergence", "curves_b128"]
    for name in result.figures:
        assert isinstance(result.plot(name), Figure)
    assert len(result.plot().axes) == len(result.plot("convergence").axes)


def test_unknown_figure(result):
    with pytest.raises(ValueError, match="'convergence', 'curves_b128'.*'loss'"):
        result.plot("loss")


def test_style_is_for_one_figure(result):
    before = dict(matplotlib.rcParams)
    assert result.plot(style={"figure.dpi": 37}).dpi == 37 != result.plot().dpi
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("size", "inches"), [("paper", 6.75), ("paper_column", 3.3)])
def test_sizes(result, tmp_path, size, inches):
    assert result.plot(size=size).get_figwidth() == inches
    path = result.save_figures(format="pdf", folder=tmp_path, size=size)[0]
    pdf = path.read_bytes()
    assert f"/MediaBox [ 0 0 {72 * inches:g} ".encode() in pdf
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf


def test_unknown_size(result, tmp_path):
    with pytest.raises(ValueError, match="`size` must be one of.*'poster'"):
        result.plot(size="poster")
    with pytest.raises(ValueError, match="size='poster'"):
        result.save_figures(folder=tmp_path / "x", size="poster")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("format", MAGIC)
def test_save_figures(result, tmp_path, format):
    paths = result.save_figures(format=format, folder=tmp_path)
    assert [path.name for path in paths] == [f"{name}.{format}" for name in result.figures]
    first = [path.read_bytes() for path in paths]
    assert all(data.startswith(MAGIC[format]) for data in first)


def test_figures_go_to_the_workdir(finished, tmp_path):
    import shutil

    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    before = files_of(tmp_path)
    paths = load(tmp_path).save_figures(format="pdf")
    assert {path.parent for path in paths} == {tmp_path / "figures"}
    after = files_of(tmp_path)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 2


def test_unknown_format(result, tmp_path):
    with pytest.raises(ValueError, match="docx"):
        result.save_figures(format="docx", folder=tmp_path / "x")


def test_table_is_that_of_the_file(finished):
    # What `pandas.DataFrame` takes: dicts of one value each.
    workdir, result = finished
    rows = list(csv.DictReader(io.StringIO((workdir / "results.csv").read_text())))
    assert len(result.table) == len(rows) == 8
    for row, written in zip(result.table, rows):
        assert {name: str(value) for name, value in row.items()} == written
        assert all(isinstance(value, (str, int, float)) for value in row.values())


def test_report(finished):
    workdir, result = finished
    assert result.report == workdir / "report.html" and result.verdict in result.report.read_text()


def test_page_of_a_notebook(result):
    page = result._repr_html_()
    assert page.count("data:image/png;base64,") == 2 and result.verdict in page
    assert html.escape(repr(result)) in page
    assert result.reason and result.reason in repr(result)
