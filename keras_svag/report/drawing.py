"""`Drawing`: a figure of a report; one style, and what figures of several studies share."""

import dataclasses
import io
import math
import pathlib
import typing

import matplotlib
import numpy as np

from keras_svag.engine.execution import DONE
from keras_svag.engine.files import records
from keras_svag.engine.state import RunFolder

STYLE: typing.Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
SGD_COLOR = "#d55e00"
# Okabe and Ito's colours, for lines that are not an ordered family.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS = "osD^vP"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn.

    Attributes:
        name: name of its file, without ending.
        title: its title in the report.
        caption: what it shows.
        draw: function without arguments that returns a `matplotlib.figure.Figure`; picklable.
    """

    name: str
    title: str
    caption: str
    draw: typing.Callable


def render(draw, kind="png", style=None):
    """The figure that `draw()` gives, as the bytes of a file."""
    buffer = io.BytesIO()
    # No date or version inside, so that the same data gives the same file.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({**STYLE, **(style or {})}):
        draw().savefig(buffer, format=kind, metadata=metadata.get(kind))
    return buffer.getvalue()


def save(path, draw, style=None):
    """Saves the figure that `draw()` gives; the end of the path says the format."""
    path = pathlib.Path(path)
    content = render(draw, path.suffix.removeprefix("."), style)
    with records.atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_curves(workdir, rows, column, axis="effective_step"):
    """A column of the records of some runs.

    Args:
        workdir: folder of the study.
        rows: rows of the table.
        column: name of the column.
        axis: name of the column that is the axis. Defaults to `"effective_step"`.

    Returns:
        A tuple of the axis and an array with a row per run; gaps are NaN.
    """
    curves, steps = [], []
    for row in rows:
        found = records.read_jsonl(RunFolder(workdir, row["name"]).metrics)
        steps = [r[axis] for r in found]
        curves.append([math.nan if r.get(column) is None else r[column] for r in found])
    return np.array(steps), np.array(curves, float)


def mean_ignoring_gaps(values):
    """Mean over the first axis of what is finite; NaN where nothing is."""
    counts = np.sum(np.isfinite(values), axis=0)
    sums = np.nansum(values, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def finished(table, batch_size=None):
    """The rows of finished runs, at a batch size if one is given."""
    done = [row for row in table if row["status"] == DONE]
    return done if batch_size is None else [r for r in done if r["batch_size"] == batch_size]


def has_column(table, column):
    """Whether a quantity was recorded, so that it can be drawn."""
    return any(math.isfinite(row.get(column, math.nan)) for row in finished(table))


def ordered_color(value, values, start=0.85, length=0.75):
    """The colour of one value of an ordered family."""
    position = values.index(value) / max(1, len(values) - 1)
    return matplotlib.colormaps["viridis"](start - length * position)


def set_log_scale(axis):
    """Makes an axis logarithmic if it has a positive value; returns whether it has."""
    possible = math.isfinite(axis.dataLim.minposy)
    if possible:
        axis.set_yscale("log")
    return possible


def set_plain_log_scale(axis):
    """A logarithmic axis of few decades, with numbers written out."""
    if set_log_scale(axis):
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
