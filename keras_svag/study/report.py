"""The report of a study: one self-contained HTML page, verdict first."""

import base64
import pathlib
import re
import shlex

import jinja2

from keras_svag.study.next_steps import next_steps

TITLES = {
    "weight_norm": "R",
    "gradient_noise": "N",
    "gradient_signal": "G",
    "noise_to_signal": "N/G",
    "equilibrium_train_loss": "train loss (window)",
    "train_loss": "train loss (end)",
    "test_accuracy": "test accuracy (end)",
}


def render(verdict, figures, config, setting, table, workdir, titles=TITLES):
    """Renders `report.html` from the template of the study that `verdict` names.

    Args:
        verdict: the dict of `verdict.json`, as JSON holds it.
        figures: list of dicts with `file`, `title` and `caption`.
        config: a validated config.
        setting: what `workdir.environment` returned.
        table: rows of `results.csv`.
        workdir: folder of the study, where the figures are.
        titles: dict from the quantities of the table of settings to their headings.

    Returns:
        A string.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_svag.study"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{verdict['study']}.html.jinja").render(
        verdict=verdict,
        figures=[{**figure, "data": _data_url(workdir, figure["file"])} for figure in figures],
        titles=titles,
        config=list(_flat(config)),
        setting=setting,
        command=shlex.join(setting["command"]),
        cost=_cost(table),
        window=config["equilibrium"],
        planned_seeds=config["num_seeds"],
        interval=_format_interval,
        # Every second part is a flag, which is not to be broken after its hyphens.
        next_steps=[re.split(r"(--\S*\w)", step) for step in next_steps(verdict, config)],
    )


def _data_url(workdir, file):
    data = (pathlib.Path(workdir) / file).read_bytes()
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
