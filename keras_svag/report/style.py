"""The style of all figures, in the sizes of a notebook, a paper and a talk."""

import math
from typing import Any

import matplotlib
from matplotlib.figure import Figure

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110,
    "grid.alpha": 0.25,
    "hatch.linewidth": 0.5,
    "legend.columnspacing": 1.4,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    # Fonts are embedded as TrueType: conferences refuse those of type 3, matplotlib's default.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    # The same data give the same file.
    "svg.hashsalt": "keras_svag",
}
_PRINTED = {
    "axes.linewidth": 0.6,
    "font.size": 7.0,
    "grid.linewidth": 0.5,
    "lines.linewidth": 0.8,
    "lines.markersize": 3.0,
    "savefig.dpi": 300,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}
# The width of the whole figure, and its greatest height; the height follows from the panels.
SIZES: dict[str, dict[str, Any]] = {
    "notebook": {
        "figure.figsize": (9.0, 9.0),
        "font.size": 9.0,
        "lines.linewidth": 1.4,
        "lines.markersize": 4.5,
    },
    "paper": {"figure.figsize": (6.75, 9.0), **_PRINTED},  # both columns of a page
    "paper_column": {"figure.figsize": (3.3, 9.0), **_PRINTED},
    "talk": {
        "axes.linewidth": 1.2,
        "figure.figsize": (12.0, 6.75),
        "font.size": 16.0,
        "lines.linewidth": 2.6,
        "lines.markersize": 8.0,
        "savefig.dpi": 160,
    },
}
NOTEBOOK = "notebook"
MIN_PANEL = 16  # narrowest panel, in units of the font size
MAX_HEIGHT = 26  # of a panel


def style_of(size=NOTEBOOK, changes=None):
    """Returns matplotlib's `rcParams` of a size of `SIZES`, with changes by the user."""
    if size not in SIZES:
        raise ValueError(
            f"`size` must be one of {', '.join(map(repr, SIZES))}. Received: size={size!r}. For "
            "another width, add style={'figure.figsize': (width, height)}."
        )
    return {**STYLE, **SIZES[size], **(changes or {})}


class StyledFigure(Figure):
    """A figure that is saved in the style that it was drawn in, wherever `savefig` is called."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        present: Any = matplotlib.rcParams
        self._style: Any = {name: present[name] for name in {**STYLE, **_PRINTED}}

    def savefig(self, *arguments, **options):
        """Saves the figure: see `matplotlib.figure.Figure.savefig`."""
        with matplotlib.rc_context(self._style):
            return super().savefig(*arguments, **options)


def panels(number, aspect=0.75, narrowest=MIN_PANEL):
    """Returns a figure of the style's width, and so many axes in as few rows as fit."""
    (width, highest), font = (matplotlib.rcParams[n] for n in ("figure.figsize", "font.size"))
    font /= 72
    rows = math.ceil(number / max(1, int(width / (narrowest * font))))
    columns = math.ceil(number / rows)
    height = min(rows * min(aspect * width / columns, MAX_HEIGHT * font), highest)
    figure = StyledFigure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[number:]:
        axis.remove()
    return figure, axes[:number]


def label_x(axes, text):
    """Labels the x axes of the panels that have none below them; aligns the labels of y axes."""
    columns = axes[0].get_gridspec().ncols
    for axis in axes[-columns:]:
        axis.set_xlabel(text)
    axes[0].figure.align_ylabels(axes)


def line_width(factor=1.0):
    """Returns a multiple of the line width of the style."""
    return factor * matplotlib.rcParams["lines.linewidth"]


def add_legend(figure, axis):
    """Adds a legend above all panels, which keep their height, of what is no series on an axis."""
    handles, labels = axis.get_legend_handles_labels()
    # Series are named at their ends.
    shown = [(h, label) for h, label in zip(handles, labels) if not h.get_gid()]
    if not shown:
        return
    handles, labels = zip(*shown)
    font = matplotlib.rcParams["font.size"] / 72
    widest = (0.5 * max(map(len, labels)) + 3) * font
    columns = min(len(labels), max(1, int(figure.get_figwidth() / widest)))
    figure.set_figheight(figure.get_figheight() + 1.6 * font * math.ceil(len(labels) / columns))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)
