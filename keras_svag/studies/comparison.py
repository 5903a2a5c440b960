"""Two studies side by side: their settings, quantities and curves."""

import dataclasses
import functools
import pathlib

import matplotlib
from matplotlib.figure import Figure

from keras_svag.engine.files import records
from keras_svag.report.drawing import COLORS, finished, load_curves, mean_ignoring_gaps
from keras_svag.report.labels import EFFECTIVE_STEPS, keep_within
from keras_svag.report.series import draw_curve, label_ends
from keras_svag.report.style import NOTEBOOK, label_x, panels, style_of
from keras_svag.report.text import Sheet
from keras_svag.report.ticks import set_log_scale
from keras_svag.studies.base.result import Result
from keras_svag.studies.base.wording import curves_of
from keras_svag.studies.base.workdir import CONFIG, differences
from keras_svag.studies.stored import load
from keras_svag.theory import mean_interval, ratio_interval

LINE_STYLES = ("-", "--")
QUANTITIES = ("weight_norm", "gradient_noise", "gradient_signal")


def compare(
    first: str | pathlib.Path | Result, second: str | pathlib.Path | Result
) -> "Comparison":
    """Compares two studies of the same kind.

    Args:
        first: Folder of a study, or its `Result`.
        second: Folder of another study, or its `Result`.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: If a folder holds no study, or the studies are of different kinds.

    Example:

    >>> for seed in (0, 1):
    ...     study = keras_svag.studies.SDEValidity(recipe, ells=(1, 2), num_seeds=2, seed=seed)
    ...     result = study.run(f"runs/seed{seed}", num_workers=1, show_progress=False)
    >>> compare("runs/seed0", "runs/seed1").differences
    ['seed: 0 -> 1']
    """
    results = [item if isinstance(item, Result) else load(item) for item in (first, second)]
    names = [result.study.name for result in results]
    if names[0] != names[1]:
        raise ValueError(
            "`first` and `second` must be studies of the same kind. "
            f"Received: {names[0]} in {results[0].workdir}, {names[1]} in {results[1].workdir}"
        )
    return Comparison(*results)


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Two studies side by side. `print` shows a table.

    Attributes:
        first: A `Result`.
        second: A `Result`.
    """

    first: Result
    second: Result

    @functools.cached_property
    def differences(self) -> list[str]:
        """Fields in which the two configs differ, as `name: first -> second`."""
        first, second = (records.read_sealed(r.workdir / CONFIG) for r in (self.first, self.second))
        return differences(first, second, mutable=())

    @functools.cached_property
    def table(self) -> list[dict]:
        """Means and their ratio, a row per quantity of each cell that both studies have."""
        first, second = (_by_cell(result.table) for result in (self.first, self.second))
        table = []
        for cell in (cell for cell in first if cell in second):
            names = [n for row in first[cell] + second[cell] for n in row if n.startswith("final_")]
            for name in dict.fromkeys((*QUANTITIES, *names)):
                a, b = ([row[name] for row in t[cell] if name in row] for t in (first, second))
                if a and b:
                    table.append(
                        {
                            **dict(zip(("batch_size", "method", "ell"), cell)),
                            "quantity": name,
                            "first": mean_interval(a).mean,
                            "second": mean_interval(b).mean,
                            "ratio": ratio_interval(b, a),
                        }
                    )
        return table

    def __repr__(self):
        lines = [("B", "method", "ell", "quantity", "first", "second", "second / first")]
        for row in self.table:
            numbers = (f"{row['first']:.4g}", f"{row['second']:.4g}", str(row["ratio"]))
            cell = (f"{row['batch_size']}", row["method"], f"{row['ell']:g}", row["quantity"])
            lines.append((*cell, *numbers))
        studies = (
            f"first: {self.first.workdir} ({self.first.verdict})\n"
            f"second: {self.second.workdir} ({self.second.verdict})"
        )
        settings = f"Different settings: {'; '.join(self.differences) or 'none'}."
        return Sheet(studies, settings, lines, left=True)

    def plot(self, batch_size: int | None = None, ell: float = 1.0, size: str = NOTEBOOK) -> Figure:
        """Plots the training curves of both studies at one batch size and ell.

        Args:
            batch_size: Batch size B. Defaults to `None`, the smallest that both studies have.
            ell: Amplification. Defaults to `1`.
            size: See `Result.plot`. Defaults to `"notebook"`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: If not both studies have finished runs there, or there is no such size.
        """
        rows = [_rows_at(result.table, ell) for result in (self.first, self.second)]
        common = sorted(set.intersection(*({r["batch_size"] for r in study} for study in rows)))
        batch_size = common[0] if batch_size is None and common else batch_size
        if batch_size not in common:
            raise ValueError(
                f"`batch_size` must be one of {common}, which both studies have at ell={ell:g}. "
                f"Received: batch_size={batch_size}"
            )
        with matplotlib.rc_context(style_of(size)):
            return self._draw(batch_size, ell)

    def _draw(self, batch_size, ell):
        curves = curves_of(self.first.table)
        figure, axes = panels(len(curves))
        for axis, (column, label, scale) in zip(axes, curves):
            for i, result in enumerate((self.first, self.second)):
                rows = [r for r in _rows_at(result.table, ell) if r["batch_size"] == batch_size]
                steps, values = load_curves(result.workdir, rows, column)
                name, mean = result.workdir.name, mean_ignoring_gaps(values)
                draw_curve(axis, steps, mean, name, COLORS[i], ls=LINE_STYLES[i])
            if scale == "log":
                set_log_scale(axis)
            keep_within(axis, column)
            axis.set_ylabel(label)
        label_x(axes, EFFECTIVE_STEPS)
        label_ends(axes)
        return figure


def _rows_at(table, ell):
    """The finished runs at an ell, of its first method: other methods have other records."""
    rows = [row for row in finished(table) if row["ell"] == ell]
    return [row for row in rows if row["method"] == rows[0]["method"]]


def _by_cell(table):
    cells: dict[tuple, list[dict]] = {}
    for row in finished(table):
        cells.setdefault((row["batch_size"], row["method"], row["ell"]), []).append(row)
    return cells
