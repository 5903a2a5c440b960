"""`Result`: a study's verdict, table, figures and report."""

import base64
import dataclasses
import functools
import html
import pathlib
from collections.abc import Sequence
from typing import Any, cast

import matplotlib
from matplotlib.figure import Figure

from keras_svag.engine.files import records, storage
from keras_svag.engine.files.tensorboard import write_images
from keras_svag.report import page
from keras_svag.report.drawing import render, save
from keras_svag.report.style import NOTEBOOK, style_of
from keras_svag.studies.base.table import write_csv

VERDICT, TABLE, REPORT = "verdict.json", "results.csv", "report.html"


@dataclasses.dataclass(repr=False, eq=False)
class Result:
    """The outcome of a study. `print` shows its table, a notebook its figures too.

    Attributes:
        study: The `Study`.
        workdir: Folder of the study, a `pathlib.Path`; in an object store a path whose `str` is the
            URL.
        details: The content of `verdict.json`, a dict.
        table: List of dicts, one per run, to be read by `pandas.DataFrame(result.table)`.
        environment: The content of `environment.json`, a dict.
        path: File that holds `details`. Defaults to `None`, `verdict.json` of the workdir.
    """

    study: Any
    workdir: pathlib.Path
    details: dict
    table: list[dict]
    environment: dict
    path: pathlib.Path | None = None

    def __post_init__(self):
        self.path = self.workdir / VERDICT if self.path is None else self.path

    @property
    def verdict(self) -> str:
        """The verdict in one word, such as `"valid"`."""
        return self.study.verdict_of(self.details)

    @property
    def reason(self) -> str:
        """The reason for the verdict, one sentence or more."""
        return self.study.reason_of(self.details)

    @functools.cached_property
    def _drawings(self):
        drawings = self.study.figures(self.table, self.details, self.workdir)
        return {drawing.name: drawing for drawing in drawings}

    @property
    def figures(self) -> list[str]:
        """Names of the figures, to be passed to `plot`."""
        return list(self._drawings)

    def plot(
        self, name: str | None = None, style: dict | None = None, size: str = NOTEBOOK
    ) -> Figure:
        """Draws a figure.

        Args:
            name: One of `figures`. Defaults to `None`, the first one.
            style: Dict of matplotlib's `rcParams` that override those of the package; the width of
                the figure is that of `"figure.figsize"`. Defaults to `None`.
            size: `"notebook"`, `"paper"` (6.75 inches, both columns of a page), `"paper_column"`
                (3.3 inches) or `"talk"`. Defaults to `"notebook"`.

        Returns:
            A `matplotlib.figure.Figure`. Limits and labels can be changed through its `axes`.

        Raises:
            ValueError: If there is no figure of that name, or no such size.
        """
        name = self.figures[0] if name is None else name
        if name not in self._drawings:
            raise ValueError(
                f"`name` must be one of {', '.join(map(repr, self.figures))}. "
                f"Received: name={name!r}"
            )
        with matplotlib.rc_context(style_of(size, style)):
            return self._drawings[name].draw()

    def save_figures(
        self,
        format: str = "png",
        folder: str | pathlib.Path | None = None,
        style: dict | None = None,
        size: str = NOTEBOOK,
    ) -> list[pathlib.Path]:
        """Saves all figures.

        Args:
            format: `"png"`, `"pdf"`, `"svg"` or another format of matplotlib. Defaults to `"png"`.
            folder: Folder to save to. Defaults to `None`, `figures/` of the workdir.
            style: See `plot`. Defaults to `None`.
            size: See `plot`. Defaults to `"notebook"`.

        Returns:
            The paths of the files.

        Raises:
            ValueError: If there is no such size, or matplotlib does not support the format.
        """
        style = style_of(size, style)
        default = self.workdir / "figures"
        folder = default if folder is None else storage.to_path(folder, "folder")
        records.make_folder(folder, parents=folder.parent != self.workdir)
        paths = [folder / f"{name}.{format}" for name in self.figures]
        for drawing, path in zip(self._drawings.values(), paths):
            save(path, drawing.draw, style)
        return paths

    @property
    def report(self) -> pathlib.Path:
        """Path of the report, an HTML page, which is written if it does not exist."""
        verdict = cast(pathlib.Path, self.path)
        path = verdict.with_name(verdict.stem.replace("verdict", "report") + ".html")
        if not storage.exists(path):
            from keras_svag.studies.stored import count_missing

            self._write_report(path, count_missing(self.workdir))
        return path

    def _write_report(self, path, missing=0):
        text = page.render(
            self.study,
            records.to_json(self.details),
            self.table,
            self.environment,
            self._drawings.values(),
            repr(self),
            missing=missing,
        )
        records.write_text(path, text)

    def judge(
        self,
        closeness: float | None = None,
        window: Sequence[float] | None = None,
        criterion: str | None = None,
    ) -> "Result":
        """Judges all finished runs again, without training; the verdict on disk stays.

        Args:
            closeness: Factor C, a float > 1. Defaults to `None`, that of the study.
            window: Two fractions of the run. Defaults to `None`, those of the study.
            criterion: For linear scaling, `"closeness"`, `"weight_norm"`, `"test_accuracy"` or
                `"test_error_ratio"`. Defaults to `None`, that of the study.

        Returns:
            A `Result` whose `path` is a new file beside `verdict.json`.

        Raises:
            ValueError: If an argument is invalid, or no run is finished.
        """
        from keras_svag.studies.stored import judge

        return judge(self, closeness, window, criterion)

    def __repr__(self):
        return self.study.format_table(self.details)

    def _repr_html_(self):
        images = "".join(
            f'<p><img alt="{html.escape(name)}" style="max-width: 100%" '
            f'src="data:image/png;base64,{base64.b64encode(render(drawing.draw)).decode()}"></p>'
            for name, drawing in self._drawings.items()
        )
        head = html.escape(f"{self.study.title} {self.verdict}")
        return f"<p><b>{head}</b></p><pre>{html.escape(repr(self))}</pre>{images}"


def write_results(result, call_all):
    """Writes verdict, table, figures (also to TensorBoard) and report; `call_all` draws."""
    workdir = result.workdir
    # First what was measured: drawing may fail.
    records.write_json(result.path, result.details)
    write_csv(workdir / TABLE, result.table)
    drawings = list(result._drawings.values())
    files = [workdir / "figures" / f"{drawing.name}.png" for drawing in drawings]
    call_all([functools.partial(save, file, d.draw) for file, d in zip(files, drawings)])
    images = {drawing.title: storage.read(file) for drawing, file in zip(drawings, files)}
    write_images(workdir / "tensorboard", images)
    result._write_report(workdir / REPORT)
