"""The report of a study: one self-contained HTML page, verdict first."""

import pathlib
import re
import shlex
import sys

import jinja2

from keras_svag.report.charts import NARROW, WIDE, draw_chart
from keras_svag.report.labels import clip_end
from keras_svag.theory.statistics.intervals import drop_rounding_error

FLAG = re.compile(r"(--\S*\w)")


def render(study, details, table, setting, figures, text, missing=0):
    """Renders the page from `report.html.jinja` beside the study's module, or the shared one."""
    # `figures` are `Drawing`s; `missing` counts planned runs without a result.
    folder = pathlib.Path(str(sys.modules[type(study).__module__].__file__)).parent
    shared = pathlib.Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, shared]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Series stay in the order in which they were drawn.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    premises = details.get("premises", {})
    return environment.get_template("report.html.jinja").render(
        verdict=details,
        figures=[_draw(figure) for figure in figures],
        missing=missing,
        violated=[name for name, holds in premises.items() if holds is False],
        unknown=[name for name, holds in premises.items() if holds is None],
        damaged=details.get("damaged_runs", []),
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


def _draw(drawing):
    charts = [draw_chart(drawing, size) for size in (WIDE, NARROW)]
    return {"title": drawing.title, "caption": drawing.caption, "charts": charts}


def _flatten(config, prefix=""):
    """Yields dotted names and values; those left at a default of `None` are omitted."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _format_interval(value, column=""):
    if value is None or value["mean"] is None:
        return "–"
    ends = [clip_end(value[name], column) for name in ("ci_low", "ci_high")]
    mean = value["mean"] if None in ends else drop_rounding_error(value["mean"], *ends)
    low, high = ("?" if end is None else f"{end:.3g}" for end in ends)
    return f"{mean:.4g} [{low}, {high}]"
