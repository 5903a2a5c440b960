"""Studies that are on disk: loaded, judged anew, compared; nothing is trained."""

import dataclasses
import pathlib

from keras_svag.engine.execution import DONE, FAILED, read_result
from keras_svag.engine.files import records
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.recipe import TrainingFacts
from keras_svag.studies.base.checks import check_records
from keras_svag.studies.base.result import VERDICT, Result
from keras_svag.studies.base.study import STUDIES
from keras_svag.studies.base.workdir import CONFIG, ENVIRONMENT
from keras_svag.version import __version__


def load(workdir):
    """Loads a study from its folder, also while it runs; nothing is trained or written.

    Args:
        workdir: folder of a study, finished or not. Its verdict is that of `verdict.json` where it
            is finished, and provisional, from the runs finished so far, where it is not.

    Returns:
        A `Result`.

    Raises:
        ValueError: if `workdir` holds no study, one of a newer version, or no finished run.
    """
    workdir = pathlib.Path(workdir).expanduser()
    study, setting = read_study(workdir)
    details, table = evaluate(study, workdir)
    return Result(study, workdir, details, table, setting)


def read_study(workdir):
    """The study of a folder, without its recipe, and what `environment.json` holds."""
    config, setting = (_read(workdir, name) for name in (CONFIG, ENVIRONMENT))
    made_by = str(setting.get("versions", {}).get("keras_svag", "0"))
    if _version(made_by) > _version(__version__):
        raise ValueError(
            f"`workdir` must be of this version of keras_svag, {__version__}, or an older one. "
            f"Received: workdir={str(workdir)!r} of version {made_by}. Upgrade keras_svag."
        )
    name = config.pop("study", None)
    if name not in list(STUDIES) or "facts" not in setting:
        raise ValueError(
            f"`workdir` must be the folder of a study ({', '.join(STUDIES)}). Received: "
            f"workdir={str(workdir)!r} of study {name!r}"
            + ("" if "facts" in setting else ", made before 0.1.0: run it again to go on.")
        )
    try:
        return STUDIES[name].from_json(config, TrainingFacts(**setting["facts"])), setting
    except (KeyError, TypeError) as error:  # a field is missing, or not one of a study's
        raise records.damaged(
            workdir, f"{CONFIG} or {ENVIRONMENT} is not as it was written ({error})"
        ) from error


def _read(workdir, name):
    content = records.read_json(workdir / name) if workdir.is_dir() else None
    if not isinstance(content, dict):
        raise ValueError(
            f"`workdir` must be the folder of a study, with {CONFIG} and {ENVIRONMENT}. "
            f"Received: workdir={str(workdir)!r}, in which there is no {name}"
        )
    return content


def _version(text):
    return [int(part) if part.isdigit() else -1 for part in text.split(".")]


def finished_runs(workdir):
    """The finished runs of a folder: a list of `RunSpec` and a dict of their `result.json`."""
    specs, results = [], {}
    names = [field.name for field in dataclasses.fields(RunSpec)]
    for path in sorted((pathlib.Path(workdir) / "runs").glob("*/result.json")):
        result = read_result(RunFolder(workdir, path.parent.name))
        if result["status"] in (DONE, FAILED):
            spec = RunSpec(**{name: result[name] for name in names})
            specs.append(spec)
            results[spec.name] = result
    return specs, results


def evaluate(study, workdir):
    """Verdict and table of a study from all finished runs of its grid, whatever their seeds."""
    if not study.is_judged:
        raise ValueError(
            "`workdir` must be the folder of a study with a verdict. Received: "
            f"workdir={str(workdir)!r}, of one run. Read its result.json and metrics.jsonl."
        )

    def cell(spec):
        return dataclasses.replace(spec, seed=0)

    specs, results = finished_runs(workdir)
    cells = {c: i for i, c in enumerate(dict.fromkeys(map(cell, study.specs({}))))}
    specs = [spec for spec in specs if cell(spec) in cells]
    specs.sort(key=lambda spec: (cells[cell(spec)], spec.seed))
    if not study.can_judge(specs):
        raise ValueError(
            "`workdir` must hold finished runs to judge. Received: "
            f"workdir={str(workdir)!r} with {len(specs)} of the study's. Wait, or run it."
        )
    check_records(specs, study.recording, study.window)
    return study.evaluate(specs, results, workdir)


def judge(result, closeness=None, window=None, criterion=None):
    """Judges a study anew: see `Result.judge`."""
    changes = {"closeness": closeness, "window": window, "criterion": criterion}
    changes = {name: value for name, value in changes.items() if value is not None}
    if "criterion" in changes and "criterion" not in result.study.own_fields:
        raise ValueError(
            "`criterion` is for linear scaling only. "
            f"Received: criterion={criterion!r} with study {result.study.name!r}"
        )
    study = dataclasses.replace(result.study, recipe=result.study.facts, **changes)
    details, table = evaluate(study, result.workdir)
    details = {**details, "judged": {**changes, "correction": study.correction(details)}}
    label = "_".join(f"{name}-{_label(value)}" for name, value in changes.items()) or "again"
    path = result.workdir / f"{pathlib.Path(VERDICT).stem}_{label}.json"
    records.write_json(path, details)
    return Result(study, result.workdir, details, table, result.setting, path)


def _label(value):
    values = value if isinstance(value, (list, tuple)) else [value]
    return "-".join(item if isinstance(item, str) else f"{item:g}" for item in values)
