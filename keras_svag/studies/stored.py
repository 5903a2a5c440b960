"""Studies on disk: loads them and judges their finished runs again; never trains."""

import dataclasses
import pathlib
import warnings

from keras_svag.engine.files import records, results, storage
from keras_svag.engine.state import RunFolder
from keras_svag.recipe import TrainingFacts
from keras_svag.studies.base.checks import check_records
from keras_svag.studies.base.looks import record_looks
from keras_svag.studies.base.result import VERDICT, Result
from keras_svag.studies.base.session import judge_runs
from keras_svag.studies.base.study import STUDIES
from keras_svag.studies.base.workdir import CONFIG, ENVIRONMENT
from keras_svag.version import __version__


def load(workdir: str | pathlib.Path) -> Result:
    """Loads a study from its folder, also while it runs. Nothing is trained or written.

    Args:
        workdir: Folder of a study. If the study is not finished, the verdict is provisional: that
            of the runs finished so far.

    Returns:
        A `Result`.

    Raises:
        ValueError: If `workdir` holds no study, one of a newer version, or no finished run.

    Example:

    >>> study = keras_svag.studies.SDEValidity(recipe, ells=(1, 2), num_seeds=2)
    >>> result = study.run("runs/mine", num_workers=1, show_progress=False)
    >>> load("runs/mine").verdict == result.verdict
    True
    """
    folder = storage.to_path(workdir)
    study, environment = read_study(folder)
    details, table = evaluate(study, folder, environment["identity"])
    return Result(study, folder, details, table, environment)


def read_study(workdir):
    """Restores the study of a folder, without its recipe; also returns its environment."""
    config, environment = (_read_settings(workdir, name) for name in (CONFIG, ENVIRONMENT))
    version = str(environment.get("versions", {}).get("keras_svag", "0"))
    if _version_tuple(version) > _version_tuple(__version__):
        raise ValueError(
            f"`workdir` must be of keras_svag {__version__}, which is installed, or older. "
            f"Received: workdir={str(workdir)!r} of version {version}. Upgrade keras_svag."
        )
    name = config.pop("study", None)
    if name not in list(STUDIES) or not {"facts", "identity"} <= environment.keys():
        raise ValueError(
            f"`workdir` must be the folder of a study ({', '.join(STUDIES)}). Received: "
            f"workdir={str(workdir)!r} of study {name!r}"
            + ("" if "facts" in environment else f", without facts in {ENVIRONMENT}.")
        )
    try:
        return STUDIES[name].from_json(config, TrainingFacts(**environment["facts"])), environment
    except (KeyError, TypeError) as error:  # a field is missing or unknown
        raise records.damaged(
            workdir, f"{CONFIG} or {ENVIRONMENT} is not as it was written ({error})"
        ) from error


def _read_settings(workdir, name):
    content = records.read_sealed(workdir / name) if storage.is_folder(workdir) else None
    if content is None:
        raise ValueError(
            f"`workdir` must be the folder of a study, with {CONFIG} and {ENVIRONMENT}. "
            f"Received: workdir={str(workdir)!r}, which has no {name}"
        )
    return content


def _version_tuple(text):
    return tuple(int(part) if part.isdigit() else -1 for part in text.split("."))


def finished_runs(study, workdir, identity):
    """The finished runs of a study by name: results, and errors of damaged ones."""
    found, damaged = {}, {}
    expected = {spec.name: spec for spec in grid_of(study)}
    for path in storage.find(workdir, "runs/*/result.json"):
        name = path.parent.name
        try:
            result = results.read(RunFolder(workdir, name), identity=identity)
            spec = results.spec_of(result)
            if cell(spec) != expected.get(cell(spec).name, cell(spec)):
                raise results.DamagedRunError(path, f"it is of another run, {spec}")
            found[name] = result
        except results.DamagedRunError as error:
            damaged[name] = error
    return found, damaged


def planned_specs(study, workdir, found):
    """The runs of a study as it would be planned by now, with the runs that are finished."""
    plan = study.first_plan()
    while True:
        specs = study.specs(plan)
        if any(spec.name not in found for spec in specs) or not study.is_judged:
            return specs
        more = study.extend_plan(judge_runs(study, specs, found, workdir)[0], plan)
        if plan | more == plan:
            return specs
        plan = plan | more


def count_missing(workdir):
    """Counts the runs that a study has planned by now and that are not finished."""
    study, environment = read_study(workdir)
    found, _ = finished_runs(study, workdir, environment["identity"])
    return sum(spec.name not in found for spec in planned_specs(study, workdir, found))


def cell(spec):
    """The run of seed 0 with the same settings."""
    return dataclasses.replace(spec, seed=0)


def grid_of(study):
    """All cells that a study may come to, in its order."""
    return list(dict.fromkeys(map(cell, study.specs(study.largest_plan()))))


def evaluate(study, workdir, identity):
    """Verdict and table from all finished runs of a study's grid; warns of damaged runs."""
    found, damaged = finished_runs(study, workdir, identity)
    for error in damaged.values():
        warnings.warn(f"{error} Until then it is left out.", stacklevel=3)
    details, table = judge_finished(study, workdir, found)
    if damaged:
        details["damaged_runs"] = sorted(damaged)
    return details, table


def judge_finished(study, workdir, found):
    """Verdict and table from those results that are of a study's grid, whatever their seeds."""
    if not study.is_judged:
        raise ValueError(
            "`workdir` must be the folder of a study with a verdict. Received: "
            f"workdir={str(workdir)!r} of a single run. Read its result.json and metrics.jsonl."
        )

    # In the order of the grid, as in a study that has just run.
    order = {spec: i for i, spec in enumerate(grid_of(study))}
    specs = [spec for spec in map(results.spec_of, found.values()) if cell(spec) in order]
    specs.sort(key=lambda spec: (order[cell(spec)], spec.seed))
    if not study.can_judge(specs):
        raise ValueError(
            "`workdir` must have enough finished runs for a verdict. Received: "
            f"workdir={str(workdir)!r} with finished runs: {len(specs)} of this study. Wait, or "
            "run the study."
        )
    check_records(specs, study.recording, study.window)
    return judge_runs(study, specs, {spec.name: found[spec.name] for spec in specs}, workdir)


def judge(result, closeness=None, window=None, criterion=None):
    """Judges a study again: see `Result.judge`."""
    changes = {"closeness": closeness, "window": window, "criterion": criterion}
    changes = {name: value for name, value in changes.items() if value is not None}
    if "criterion" in changes and "criterion" not in result.study.own_fields:
        raise ValueError(
            "`criterion` is for linear scaling only. "
            f"Received: criterion={criterion!r} with study {result.study.name!r}"
        )
    study = dataclasses.replace(result.study, recipe=result.study.facts, **changes)
    details, table = evaluate(study, result.workdir, result.environment["identity"])
    record_looks(result.workdir, details.get("looks", {}))
    details = {**details, "judged": {**changes, "correction": study.correction(details)}}
    suffix = "_".join(f"{name}-{_in_file_name(value)}" for name, value in changes.items())
    path = result.workdir / f"{pathlib.Path(VERDICT).stem}_{suffix or 'again'}.json"
    records.write_json(path, details)
    return Result(study, result.workdir, details, table, result.environment, path)


def _in_file_name(value):
    values = value if isinstance(value, (list, tuple)) else [value]
    return "-".join(item if isinstance(item, str) else f"{item:g}" for item in values)
