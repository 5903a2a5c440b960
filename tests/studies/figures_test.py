"""What the lines of the figures of an SDE-validity study show."""

import math

import numpy as np
import pytest

from keras_svag.engine.execution import FAILED
from keras_svag.engine.files import records
from keras_svag.studies import Result
from keras_svag.studies.base.wording import curves_of
from keras_svag.studies.sde_validity import figures

ELLS = (1, 2, 4, 8)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def result(finished):
    return finished[1]


@pytest.fixture(scope="module")
def drawn(result):
    """Matplotlib figures by name."""
    assert result.figures == ["convergence", "curves_b128"]
    return {name: result.plot(name) for name in result.figures}


def curves(workdir, ell, column):
    """Effective steps and, of each seed, the values of a column."""
    rows = [
        records.read_jsonl(workdir / "runs" / f"b128_ell{ell:g}_seed{seed}" / "metrics.jsonl")
        for seed in (0, 1)
    ]
    values = [[math.nan if r[column] is None else r[column] for r in run] for run in rows]
    return [r["effective_step"] for r in rows[0]], np.array(values)


@pytest.mark.parametrize("panel", range(6))
def test_curves(drawn, result, panel):
    column, label, scale = curves_of(result.table)[panel]
    axis = drawn["curves_b128"].axes[panel]
    assert axis.get_ylabel() == label and axis.get_yscale() == scale
    lines = {line.get_label(): line for line in axis.lines}
    assert list(lines) == ["ℓ = 1 (SGD)", "ℓ = 2", "ℓ = 4", "ℓ = 8"]
    assert len({str(line.get_color()) for line in lines.values()}) == 4
    bands = [c for c in axis.collections if len(c.get_paths())]
    for ell, line, band in zip(ELLS, lines.values(), bands):
        steps, values = curves(result.workdir, ell, column)
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
    axes = drawn["curves_b128"].axes
    assert [axis.get_xlabel() for axis in axes] == [""] * 3 + ["steps / ℓ"] * 3
    symbols = ["R = ‖x‖²", "N = Tr Σ", "G = ‖∇L‖²", "N/G"]
    assert [axis.get_ylabel() for axis in axes[2:]] == symbols
    # Names at the right of the first row, and no legend that covers lines.
    names = [text.get_text() for text in axes[2].texts]
    assert sorted(names) == ["ℓ = 1 (SGD)", "ℓ = 2", "ℓ = 4", "ℓ = 8"]
    assert all(axis.get_legend() is None for axis in axes)


def test_limits_and_labels_can_be_set_by_hand(result, tmp_path):
    figure = result.plot("curves_b128", size="paper_column")
    axis = figure.axes[2]
    axis.set_ylim(30, 300)
    axis.set_ylabel("squared norm of the weights")
    figure.savefig(tmp_path / "figure.svg")
    assert axis.get_ylim() == (30, 300)
    assert "squared norm of the weights" in (tmp_path / "figure.svg").read_text("utf-8")
    assert list(axis.get_yticks()) == [50, 100, 200]


def test_accuracy_stays_within_zero_and_one(drawn):
    low, high = drawn["curves_b128"].axes[0].get_ylim()
    assert 0 <= low < high <= 1


def test_bands_differ_without_color(drawn):
    bands = {patch.get_hatch() for patch in drawn["convergence"].axes[0].patches}
    assert bands <= set(figures.HATCHES) and len(set(figures.HATCHES)) == 6


@pytest.mark.parametrize("panel", range(4))
def test_convergence(drawn, result, panel):
    column, label = figures.LIMITS[panel]
    axis = drawn["convergence"].axes[panel]
    assert axis.get_ylabel() == label
    factor = 128 if column == "gradient_noise" else 1  # B N, which the batch size leaves
    values = {
        ell: factor * np.array([row[column] for row in result.table if row["ell"] == ell])
        for ell in ELLS
    }
    (line,) = [line for line in axis.lines if line.get_label() == "B = 128"]
    means = {ell: values[ell].mean() for ell in ELLS}
    np.testing.assert_allclose(line.get_xdata(), [1, 1 / 2, 1 / 4, 1 / 8])
    np.testing.assert_allclose(line.get_ydata(), list(means.values()))
    # Two extrapolations, and at their mean the limit that the verdict judges by, hollow.
    expected = [2 * means[4] - means[2], 2 * means[8] - means[4]]
    dotted = [line for line in axis.lines if line.get_linestyle() == ":"]
    ends = [line.get_ydata()[-1] for line in dotted]
    np.testing.assert_allclose(ends, [end for end in expected if end > 0])
    limit = sum(expected) / 2
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == (limit > 0)
    for point in hollow:
        np.testing.assert_allclose(point.get_xydata(), [[0, limit]])


def test_files_are_images_and_the_same_each_time(result, tmp_path):
    for path in result.save_figures(folder=tmp_path):
        data = path.read_bytes()
        assert data.startswith(PNG)
        # Drawn at another moment: no date or random name inside.
        assert data == (result.workdir / "figures" / path.name).read_bytes()


@pytest.mark.filterwarnings("error")
def test_nothing_to_draw(result, tmp_path):
    # No run finished: empty axes, but no warning and no crash at the end of a long study.
    failed = [{**row, "status": FAILED} for row in result.table]
    empty = Result(result.study, result.workdir, result.details, failed, result.environment)
    for path in empty.save_figures(folder=tmp_path):
        assert path.read_bytes().startswith(PNG)
