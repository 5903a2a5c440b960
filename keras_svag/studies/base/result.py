"""`Result`: a study's verdict, table, figures and report."""

import base64
import functools
import html
import pathlib

import matplotlib

from keras_svag.engine.files import records
from keras_svag.engine.files.tensorboard import write_images
from keras_svag.report import page
from keras_svag.report.drawing import STYLE, render, save
from keras_svag.studies.base.table import write_csv

VERDICT, TABLE, REPORT = "verdict.json", "results.csv", "report.html"


class Result:
    """What a study found; a notebook shows it all.

    Attributes:
        study: the `Study`.
        workdir: folder of the study, a `pathlib.Path`.
        details: dict, the content of `verdict.json`.
        table: list of dicts, a row per run: `pandas.DataFrame(result.table)` works.
        path: the file that holds `details`.
    """

    def __init__(self, study, workdir, details, table, setting, path=None):
        self.study, self.workdir = study, pathlib.Path(workdir)
        self.details, self.table, self.setting = details, table, setting
        self.path = self.workdir / VERDICT if path is None else path

    @property
    def verdict(self):
        """The verdict in one word, such as `"valid"`."""
        return self.study.verdict_of(self.details)

    @property
    def reason(self):
        """What the verdict rests on, a sentence or more."""
        return self.study.reason_of(self.details)

    @functools.cached_property
    def _drawings(self):
        drawings = self.study.figures(self.table, self.details, self.workdir)
        return {drawing.name: drawing for drawing in drawings}

    @property
    def figures(self):
        """Names of the figures, for `plot`."""
        return list(self._drawings)

    def plot(self, name=None, style=None):
        """Draws a figure.

        Args:
            name: one of `figures`. Defaults to `None`: the first.
            style: dict of matplotlib's `rcParams` on top of the package's. Defaults to `None`.

        Returns:
            A `matplotlib.figure.Figure`, whose axes can be changed.

        Raises:
            ValueError: if there is no figure of that name.
        """
        name = self.figures[0] if name is None else name
        if name not in self._drawings:
            raise ValueError(
                f"`name` must be one of {', '.join(map(repr, self.figures))}. Received: {name!r}"
            )
        with matplotlib.rc_context({**STYLE, **(style or {})}):
            return self._drawings[name].draw()

    def save_figures(self, format="png", folder=None, style=None):
        """Saves all figures.

        Args:
            format: `"png"`, `"pdf"` or `"svg"`, or another one that matplotlib knows.
                Defaults to `"png"`.
            folder: where to. Defaults to `None`: `figures/` of the workdir.
            style: as for `plot`. Defaults to `None`.

        Returns:
            A list of paths.

        Raises:
            ValueError: if matplotlib does not know the format.
        """
        folder = self.workdir / "figures" if folder is None else pathlib.Path(folder)
        paths = []
        for name in self.figures:
            paths.append(folder / f"{name}.{format}")
            save(paths[-1], functools.partial(self.plot, name), style or {})
        return paths

    @property
    def report(self):
        """Path of the report, an HTML page; it is written now if it is not there."""
        path = self.path.with_name(self.path.stem.replace("verdict", "report") + ".html")
        if not path.exists():
            folder = self.workdir / path.stem
            self._write_report(path, folder, self.save_figures(folder=folder))
        return path

    def _write_report(self, path, folder, files):
        drawn = [
            {"file": file, "title": d.title, "caption": d.caption}
            for file, d in zip(files, self._drawings.values())
        ]
        details = records.to_json(self.details)
        text = page.render(self.study, details, self.table, self.setting, drawn, repr(self))
        records.write_text(path, text)

    def judge(self, closeness=None, window=None, criterion=None):
        """Judges the finished runs anew; never trains, and leaves the old verdict as it is.

        Args:
            closeness: C, a float > 1. Defaults to `None`: as the study has it.
            window: two fractions of the run. Defaults to `None`: as the study has it.
            criterion: for linear scaling, `"closeness"`, `"weight_norm"` or `"test_accuracy"`.
                Defaults to `None`: as the study has it.

        Returns:
            A `Result`; its `path` is a new file beside `verdict.json`.

        Raises:
            ValueError: if an argument is wrong, or no run is finished.
        """
        from keras_svag.studies.stored import judge

        return judge(self, closeness, window, criterion)

    def __repr__(self):
        return self.study.format_table(self.details)

    def _repr_html_(self):
        pictures = "".join(
            f'<p><img alt="{html.escape(name)}" style="max-width: 100%" '
            f'src="data:image/png;base64,{base64.b64encode(render(drawing.draw)).decode()}"></p>'
            for name, drawing in self._drawings.items()
        )
        head = html.escape(f"{self.study.title} {self.verdict}")
        return f"<p><b>{head}</b></p><pre>{html.escape(repr(self))}</pre>{pictures}"


def write_results(result, call_all):
    """Writes `verdict.json`, `results.csv`, the figures and `report.html`, in this order.

    The figures go to `tensorboard/` too, beside the scalars of the runs. What was measured is on
    disk before anything is drawn.

    Args:
        result: a `Result`.
        call_all: function that calls a list of functions, such as `RunPool.call_all`.
    """
    workdir = result.workdir
    records.write_json(result.path, result.details)
    write_csv(workdir / TABLE, result.table)
    drawings = list(result._drawings.values())
    files = [workdir / "figures" / f"{drawing.name}.png" for drawing in drawings]
    call_all([functools.partial(save, file, d.draw) for file, d in zip(files, drawings)])
    images = {drawing.title: file.read_bytes() for drawing, file in zip(drawings, files)}
    write_images(workdir / "tensorboard", images)
    result._write_report(workdir / REPORT, workdir / "figures", files)
