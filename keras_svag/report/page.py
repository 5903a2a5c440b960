"""The report of a study: one self-contained HTML page, verdict first."""

import base64
import pathlib
import re
import shlex
import sys

import jinja2

from keras_svag.engine.files import storage
from keras_svag.theory.statistics.intervals import drop_rounding_error

FLAG = re.compile(r"(--\S*\w)")


def render(study, details, table, setting, figures, text):
    """Renders `report.html` from the template beside the study's module, or the shared one."""
    folder = pathlib.Path(str(sys.modules[type(study).__module__].__file__)).parent
    shared = pathlib.Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, shared]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        verdict=details,
        figures=[{**figure, "data": _base64(figure["file"])} for figure in figures],
        titles=study.titles(table),
        config=list(_flatten(study.describe())),
        setting=setting,
        command=shlex.join(setting["command"]),
        cost={
            name: sum(row[name] for row in table)
            for name in ("steps", "gradient_evaluations", "seconds")
        },
        num_runs=len(table),
        study=study,
        text=text,
        facts=study.facts,
        interval=_format_interval,
        # Every second part is a flag, in which the page must not break lines.
        next_steps=[FLAG.split(step) for step in study.recommend(details)],
    )


def _base64(file):
    return base64.b64encode(storage.read(file)).decode("ascii")


def _flatten(config, prefix=""):
    """Yields dotted names and values; those left at a default of `None` are omitted."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _format_interval(value):
    if value is None or value["mean"] is None:
        return "–"
    ends = [value["ci_low"], value["ci_high"]]
    mean = value["mean"] if None in ends else drop_rounding_error(value["mean"], *ends)
    low, high = ("?" if end is None else f"{end:.3g}" for end in ends)
    return f"{mean:.4g} [{low}, {high}]"
