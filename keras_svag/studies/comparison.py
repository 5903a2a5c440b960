"""Two studies side by side: what differs in their settings, and in what they found."""

import dataclasses
import functools
import pathlib
import typing

import matplotlib
from matplotlib.figure import Figure

from keras_svag.engine.files import records
from keras_svag.report.drawing import (
    COLORS,
    STYLE,
    finished,
    load_curves,
    mean_ignoring_gaps,
    set_log_scale,
)
from keras_svag.report.text import align
from keras_svag.studies.base.identity import differences
from keras_svag.studies.base.titles import curves_of
from keras_svag.studies.base.workdir import CONFIG
from keras_svag.studies.stored import load
from keras_svag.theory import mean_interval, ratio_interval

STYLES = ("-", "--")


def compare(first, second):
    """Compares two studies of one kind from their folders.

    Args:
        first: folder of a study, or its `Result`.
        second: the same of another one.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: if a folder holds no study, or the studies are of two kinds.
    """
    results = [item if hasattr(item, "study") else load(item) for item in (first, second)]
    names = [result.study.name for result in results]
    if names[0] != names[1]:
        raise ValueError(
            "`first` and `second` must be studies of one kind. "
            f"Received: {names[0]} in {results[0].workdir}, {names[1]} in {results[1].workdir}"
        )
    return Comparison(*results)


@dataclasses.dataclass(frozen=True, repr=False)
class Comparison:
    """Two studies side by side; printed, it is a table.

    Attributes:
        first: a `Result`.
        second: a `Result`.
    """

    first: typing.Any
    second: typing.Any

    @functools.cached_property
    def differences(self):
        """Fields of the two configs that differ, as `name: first -> second`."""
        configs = [records.read_json(r.workdir / CONFIG) for r in (self.first, self.second)]
        return differences(*configs, mutable=())

    @functools.cached_property
    def table(self):
        """A row for each cell that both have and each quantity: means, and their ratio."""
        rows = []
        cells = [_cells(result.table) for result in (self.first, self.second)]
        for cell in (c for c in cells[0] if c in cells[1]):
            a, b = (found[cell] for found in cells)
            for name in ("weight_norm", "gradient_noise", "gradient_signal", *_ends(a, b)):
                values = [[r[name] for r in rows_ if name in r] for rows_ in (a, b)]
                if not all(values):
                    continue
                rows.append(
                    {
                        **dict(zip(("batch_size", "method", "ell"), cell)),
                        "quantity": name,
                        "first": mean_interval(values[0]).mean,
                        "second": mean_interval(values[1]).mean,
                        "ratio": ratio_interval(values[1], values[0]),
                    }
                )
        return rows

    def __repr__(self):
        lines = [("B", "method", "ell", "quantity", "first", "second", "second / first")]
        for row in self.table:
            numbers = (f"{row['first']:.4g}", f"{row['second']:.4g}", str(row["ratio"]))
            cell = (f"{row['batch_size']}", row["method"], f"{row['ell']:g}", row["quantity"])
            lines.append((*cell, *numbers))
        text = [
            f"first: {self.first.workdir} ({self.first.verdict})",
            f"second: {self.second.workdir} ({self.second.verdict})",
            "",
            "Settings that differ: " + ("; ".join(self.differences) or "none") + ".",
            "",
            *align(lines, left=True),
        ]
        return "\n".join(text)

    def plot(self, batch_size=None, ell=1.0):
        """Draws the curves of both at one setting, over each other.

        Args:
            batch_size: B. Defaults to `None`: the smallest that both have.
            ell: amplification. Defaults to `1`.

        Returns:
            A `matplotlib.figure.Figure`.

        Raises:
            ValueError: if they have no such setting in common.
        """
        sizes = [
            {r["batch_size"] for r in finished(result.table) if r["ell"] == ell}
            for result in (self.first, self.second)
        ]
        common = sorted(sizes[0] & sizes[1])
        batch_size = common[0] if batch_size is None and common else batch_size
        if batch_size not in common:
            raise ValueError(
                f"`batch_size` must be one of {common}, which both have at ell={ell:g}. "
                f"Received: batch_size={batch_size}"
            )
        with matplotlib.rc_context(STYLE):
            return self._draw(batch_size, ell)

    def _draw(self, batch_size, ell):
        figure = Figure(figsize=(11, 6), layout="constrained")
        curves = curves_of(self.first.table)
        for axis, (column, label, scale) in zip(figure.subplots(2, 3).flat, curves):
            for i, result in enumerate((self.first, self.second)):
                rows = [r for r in finished(result.table, batch_size) if r["ell"] == ell]
                steps, values = load_curves(result.workdir, rows, column)
                name = f"{pathlib.Path(result.workdir).name} ({len(rows)} seeds)"
                mean = mean_ignoring_gaps(values)
                axis.plot(steps, mean, STYLES[i], color=COLORS[i], label=name)
            if scale == "log":
                set_log_scale(axis)
            axis.set_title(label, loc="left")
            axis.set_xlabel("effective steps")
        figure.axes[0].legend()
        figure.suptitle(f"batch size {batch_size}, ell = {ell:g}")
        return figure


def _cells(table):
    cells = {}
    for row in finished(table):
        cells.setdefault((row["batch_size"], row["method"], row["ell"]), []).append(row)
    return cells


def _ends(*cells):
    names = [name for rows in cells for row in rows for name in row if name.startswith("final_")]
    return list(dict.fromkeys(names))
