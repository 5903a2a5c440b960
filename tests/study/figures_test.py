"""Tests of keras_svag/study/figures.py: what the lines of the figures show."""

import math

import matplotlib
import numpy as np
import pytest

from keras_svag.study import figures, records, runs
from keras_svag.study.grid import summarize_runs
from keras_svag.study.sde_validity import build_grid, build_verdict

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def study(finished, config):
    """Folder, table and verdict of the finished study."""
    workdir, _ = finished
    grid = build_grid(config, 1437)
    results = {r.name: records.read_json(runs.RunFolder(workdir, r.name).result) for r in grid}
    table = summarize_runs(grid, results, config, 1437, workdir)
    return workdir, table, build_verdict(table, config)


@pytest.fixture(scope="module")
def drawn(study, config):
    """Matplotlib figures by file name, caught on their way to the file."""
    caught = {}
    with pytest.MonkeyPatch.context() as patch:

        def catch(path, draw, *arguments):
            with matplotlib.rc_context(figures.STYLE):
                caught[path.name] = draw(*arguments)

        patch.setattr(figures, "_save", catch)
        listed = figures.draw_sde_validity(*study, config)
    assert [entry["file"] for entry in listed] == [
        "figures/convergence.png",
        "figures/curves_b128.png",
    ]
    assert all(entry["title"] and entry["caption"] for entry in listed)
    return caught


def curves(workdir, ell, column):
    """Effective steps and, of each seed, the values of a column."""
    rows = [
        records.read_jsonl(workdir / "runs" / f"b128_ell{ell:g}_seed{seed}" / "metrics.jsonl")
        for seed in (0, 1)
    ]
    values = [[math.nan if r[column] is None else r[column] for r in run] for run in rows]
    return [r["effective_step"] for r in rows[0]], np.array(values)


@pytest.mark.parametrize("panel", range(6))
def test_curves(drawn, study, panel):
    column, label, scale = figures.CURVES[panel]
    axis = drawn["curves_b128.png"].axes[panel]
    assert axis.get_title(loc="left") == label and axis.get_yscale() == scale
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == ["ell = 1 (SGD)", "ell = 2", "ell = 4"]
    assert len({str(line.get_color()) for line in lines.values()}) == 3
    bands = [c for c in axis.collections if len(c.get_paths())]
    for ell, line, band in zip((1, 2, 4), lines.values(), bands):
        steps, values = curves(study[0], ell, column)
        if scale == "log":
            values = np.where(values > 0, values, np.nan)
        np.testing.assert_array_equal(line.get_xdata(), steps)
        np.testing.assert_allclose(line.get_ydata(), np.nanmean(values, axis=0))
        # The band spans the seeds.
        if np.isfinite(values).all():
            corners = band.get_paths()[0].vertices[:, 1]
            for value in (*values.min(axis=0), *values.max(axis=0)):
                assert np.isclose(corners, value, rtol=1e-12).any()


def test_labels_of_the_curves(drawn):
    figure = drawn["curves_b128.png"]
    assert all(axis.get_xlabel() == "effective steps (steps / ell)" for axis in figure.axes[3:])
    assert figure.get_suptitle() == "batch size 128, learning rate 3.2"


@pytest.mark.parametrize("panel", range(4))
def test_convergence(drawn, study, panel):
    column, label = figures.LIMITS[panel]
    axis = drawn["convergence.png"].axes[panel]
    assert axis.get_title(loc="left") == label
    factor = 3.2 if column == "gradient_noise" else 1.0  # eta N, which the batch size leaves
    values = {
        ell: factor * np.array([row[column] for row in study[1] if row["ell"] == ell])
        for ell in (1, 2, 4)
    }
    (line,) = [line for line in axis.lines if line.get_label() == "B = 128"]
    np.testing.assert_allclose(line.get_xdata(), [1, 1 / 2, 1 / 4])
    np.testing.assert_allclose(line.get_ydata(), [values[ell].mean() for ell in (1, 2, 4)])
    # The hollow point at 1/l = 0 is the limit that the verdict judges by.
    limit = (2 * values[4] - values[2]).mean()
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == (limit > 0)
    for point in hollow:
        np.testing.assert_allclose(point.get_xydata(), [[0, limit]])


def test_files_are_images_and_the_same_each_time(study, config, tmp_path):
    workdir, table, verdict = study
    (tmp_path / "runs").symlink_to(workdir / "runs")
    figures.draw_sde_validity(tmp_path, table, verdict, config)
    for name in ("convergence.png", "curves_b128.png"):
        data = (tmp_path / "figures" / name).read_bytes()
        assert data.startswith(PNG)
        # Drawn in another process moment: no date or random name inside.
        assert data == (workdir / "figures" / name).read_bytes()


@pytest.mark.filterwarnings("error")
def test_nothing_to_draw(study, config, tmp_path):
    # No run finished: empty axes, but no warning and no crash at the end of a long study.
    _, table, verdict = study
    failed = [{**row, "status": runs.FAILED} for row in table]
    figures.draw_sde_validity(tmp_path, failed, verdict, config)
    assert (tmp_path / "figures" / "convergence.png").read_bytes().startswith(PNG)
