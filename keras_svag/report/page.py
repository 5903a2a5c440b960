"""The report of a study: one self-contained HTML page, verdict first."""

import base64
import pathlib
import re
import shlex
import sys

import jinja2


def render(study, details, table, setting, figures, text):
    """Renders `report.html` from the template beside the study's module.

    Args:
        study: what the page is about, with `name`, `titles`, `recommend` and `describe`.
        details: the dict of `verdict.json`, as JSON holds it.
        table: rows of `results.csv`.
        setting: what `environment.json` holds.
        figures: list of dicts with `file` (a path), `title` and `caption`.
        text: the table of the study, as it is printed.

    Returns:
        A string.
    """
    folder = pathlib.Path(sys.modules[type(study).__module__].__file__).parent
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
        figures=[{**figure, "data": _data_url(figure["file"])} for figure in figures],
        titles=study.titles(table),
        config=list(_flat(study.describe())),
        setting=setting,
        command=shlex.join(setting["command"]),
        cost=_cost(table),
        study=study,
        text=text,
        facts=study.facts,
        interval=_format_interval,
        # Every second part is a flag, which is not to be broken after its hyphens.
        next_steps=[re.split(r"(--\S*\w)", step) for step in study.recommend(details)],
    )


def _data_url(file):
    data = pathlib.Path(file).read_bytes()
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _flat(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:  # what is left at its default says nothing
            yield f"{prefix}{name}", value


def _cost(table):
    return {
        "runs": len(table),
        "steps": sum(row["steps"] for row in table),
        "gradients": sum(row["gradient_evaluations"] for row in table),
        "seconds": sum(row["seconds"] for row in table),
    }


def _format_interval(value):
    if value is None or value["mean"] is None:
        return "–"
    low = "?" if value["ci_low"] is None else f"{value['ci_low']:.3g}"
    high = "?" if value["ci_high"] is None else f"{value['ci_high']:.3g}"
    return f"{value['mean']:.4g} [{low}, {high}]"
