"""The folder of a study: what was asked for, with what it was run, and what came out."""

import importlib.metadata
import os
import pathlib
import platform
import sys

import keras

from keras_svag.study import lock, records, report
from keras_svag.study.config import differences
from keras_svag.study.grid import write_csv
from keras_svag.study.tensorboard import write_images
from keras_svag.version import __version__

PACKAGES = (
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-datasets",
    "jax",
    "jaxlib",
    "keras",
    "numpy",
    "scipy",
    "scikit-learn",
)


def claim(workdir, study, config):
    """Writes `config.json`, or checks that the folder belongs to the same study.

    The grid (seeds, batch sizes, ells) and the way it is judged may change from one call to the
    next: finished runs are used again. Anything that would change a run may not.

    Args:
        workdir: folder of the study; made if it does not exist.
        study: name of the study.
        config: a validated config.

    Returns:
        The folder as a `pathlib.Path`.

    Raises:
        ValueError: if `workdir` is a file, or belongs to another study or config; nothing is
            written then.
    """
    workdir = pathlib.Path(workdir)
    _refuse_other_config(workdir, study, config)
    with lock.hold(workdir / "lock", wait=True):
        _write_config(workdir, study, config)
    return workdir


def _refuse_other_config(workdir, study, config):
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(
            "`workdir` must be a folder, or not exist yet. "
            f"Received: workdir={str(workdir)!r}, a file. Use another --workdir."
        )
    existing = records.read_json(workdir / "config.json")
    if existing is None:
        return
    changed = differences(existing, records.to_json({"study": study, **config}))
    if changed:
        raise ValueError(
            "`workdir` must be new or belong to the same config: its runs were made with "
            f"other settings ({'; '.join(changed)}). Received: workdir={str(workdir)!r}. "
            "Use another --workdir, or undo the changes."
        )


def _write_config(workdir, study, config):
    # Once more: another process may have claimed the folder just now.
    _refuse_other_config(workdir, study, config)
    records.write_json(workdir / "config.json", {"study": study, **config})


def begin(workdir, study, config, dataset, command=None):
    """Claims the folder of a study and writes what it is run with.

    Args:
        workdir: folder of the study.
        study: name of the study.
        config: a validated config.
        dataset: a `keras_svag.datasets.Dataset`.
        command: list of strings. Defaults to the command of this process.

    Returns:
        A tuple `(workdir, setting)`: the folder as a `pathlib.Path`, and what `environment` gives.

    Raises:
        ValueError: as `claim` does, or if the runs there have seen other data or were made under
            another backend of Keras.
        WriteError: if nothing can be written there.
    """
    workdir = pathlib.Path(workdir)
    setting = environment(command or default_command())
    data = {"name": dataset.name, "sha256": dataset.fingerprint()}
    environment_file = workdir / "environment.json"
    _refuse_other_config(workdir, study, config)
    _refuse_other_environment(environment_file, data, setting["backend"])
    with lock.hold(workdir / "lock", wait=True):
        _refuse_other_environment(environment_file, data, setting["backend"])
        _write_config(workdir, study, config)
        records.write_json(environment_file, {**setting, "seed": config["seed"], "data": data})
    return workdir, setting


def _refuse_other_environment(path, data, backend):
    before = records.read_json(path) or {}
    if before.get("data", data) != data:
        raise ValueError(
            "`workdir` must be new or belong to the same data: its runs have seen other examples "
            f"(sha256 {before['data']['sha256'][:12]}, now {data['sha256'][:12]}). "
            f"Received: workdir={str(path.parent)!r}. Use another --workdir, or the data of before."
        )
    if before.get("backend", backend) != backend:
        raise ValueError(
            "`workdir` must be new or belong to the same Keras backend, since a seed gives other "
            f"initial weights on each: its runs were made under {before['backend']!r}. Received: "
            f"workdir={str(path.parent)!r} under {backend!r}. Use another --workdir, or set "
            f"KERAS_BACKEND={before['backend']}."
        )


def finish(workdir, verdict, table, draw, config, setting, titles=report.TITLES):
    """Writes `verdict.json`, `results.csv`, the figures and `report.html`, in this order.

    The figures go to `tensorboard/` too, beside the scalars of the runs.

    Args:
        workdir: folder of the study.
        verdict: the dict for `verdict.json`.
        table: list of dicts, the rows for `results.csv`.
        draw: function without arguments that saves the figures and returns the list of dicts that
            `report.render` takes. What was measured is on disk before it is called.
        config: a validated config.
        setting: what `begin` returned.
        titles: see `report.render`.
    """
    records.write_json(workdir / "verdict.json", verdict)
    write_csv(workdir / "results.csv", table)
    drawn = draw()
    images = {figure["title"]: (workdir / figure["file"]).read_bytes() for figure in drawn}
    write_images(workdir / "tensorboard", images)
    page = report.render(
        records.to_json(verdict), drawn, config, setting, table, workdir, titles=titles
    )
    records.write_text(workdir / "report.html", page)


def environment(command):
    """Versions, devices and command of this process.

    Args:
        command: the command line, a list of strings.

    Returns:
        A dict.
    """
    versions = {"python": platform.python_version(), "keras_svag": __version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": command,
        "versions": versions,
        "backend": keras.backend.backend(),
        "devices": keras.distribution.list_devices(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
    }


def default_command():
    """The command that started this process, as the user can repeat it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec else [pathlib.Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]
