"""Figures of reports: how they are drawn to files, and what several studies share."""

import dataclasses
import io
import math
import typing

import matplotlib
import numpy as np

from keras_svag.engine.execution import DONE
from keras_svag.engine.files import records, results
from keras_svag.engine.state import RunFolder
from keras_svag.report.style import style_of

SGD_COLOR = "#d55e00"
# The color-blind safe palette of Okabe and Ito, for lines without an order.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS = "osD^vP"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure of a report, drawn only when needed.

    `name` is that of its file, without extension; `draw` takes no arguments, returns a
    `matplotlib.figure.Figure`, and can be pickled, so that a worker process can draw it.
    """

    name: str
    title: str
    caption: str
    draw: typing.Callable


def render(draw, kind="png", style=None):
    """Returns the bytes of a file with the figure that `draw()` returns, in a style of `style`."""
    buffer = io.BytesIO()
    # Neither date nor version inside, so that the same data gives the same file.
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with matplotlib.rc_context(style or style_of()):
        draw().savefig(buffer, format=kind, metadata=metadata.get(kind))
    return buffer.getvalue()


def save(path, draw, style=None):
    """Saves the figure that `draw()` returns, in the format of the extension of `path`."""
    content = render(draw, path.suffix.removeprefix("."), style)
    records.make_folder(path.parent)
    records.write_bytes(path, content)


def load_curves(workdir, rows, column, axis="effective_step"):
    """Returns a recorded axis, and a column as an array with a row per run; gaps are NaN."""
    curves, steps = [], []
    for row in rows:
        recorded = results.read_rows(RunFolder(workdir, row["name"]))
        steps = [r[axis] for r in recorded]
        curves.append([math.nan if r.get(column) is None else r[column] for r in recorded])
    return np.array(steps), np.array(curves, float)


def mean_ignoring_gaps(values):
    """Returns the mean over the first axis of the finite values; NaN where there are none."""
    # `np.nanmean` would warn of columns without values.
    counts = np.sum(np.isfinite(values), axis=0)
    sums = np.nansum(values, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def finished(table, batch_size=None):
    """Returns the rows of finished runs, of one batch size if it is given."""
    done = [row for row in table if row["status"] == DONE]
    return done if batch_size is None else [r for r in done if r["batch_size"] == batch_size]


def has_column(table, column):
    """Returns True if some finished run has recorded the quantity."""
    return any(math.isfinite(row.get(column, math.nan)) for row in finished(table))


def ordered_color(value, values, start=0.85, length=0.75):
    """Returns the color of one of several ordered values, such as batch sizes."""
    position = values.index(value) / max(1, len(values) - 1)
    return matplotlib.colormaps["viridis"](start - length * position)
