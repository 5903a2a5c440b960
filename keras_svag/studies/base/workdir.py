"""The folder of a study: what was asked for, with what it was run, and what came out."""

import importlib.metadata
import os
import pathlib
import platform
import sys

import keras

from keras_svag.engine.files import lock, records
from keras_svag.studies.base.identity import check_same_config, check_same_environment
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
CONFIG, ENVIRONMENT = "config.json", "environment.json"


def claim(workdir, study, command=None):
    """Writes `config.json` and `environment.json`, or checks that the folder is the study's.

    The grid (seeds, batch sizes, ells) and the way it is judged may change from one call to the
    next: finished runs are used again. Anything that would change a run may not.

    Args:
        workdir: folder of the study; made if it does not exist.
        study: a `Study` with a recipe.
        command: list of strings. Defaults to the command of this process.

    Returns:
        The dict that `environment.json` holds.

    Raises:
        ValueError: if `workdir` is a file, or belongs to another study, config, network, data,
            backend or precision; nothing is written then.
        WriteError: if nothing can be written there.
    """
    workdir = pathlib.Path(workdir)
    config, setting = records.to_json(study.describe()), environment(command or default_command())
    setting |= study.describe_environment()

    def check():
        if workdir.exists() and not workdir.is_dir():
            raise ValueError(
                "`workdir` must be a folder, or not exist yet. "
                f"Received: workdir={str(workdir)!r}, a file. Use another --workdir."
            )
        existing = records.read_json(workdir / CONFIG)
        check_same_config(workdir, existing, config, study.mutable_fields)
        before = records.read_json(workdir / ENVIRONMENT) or {}
        check_same_environment(workdir, before, setting)

    check()
    with lock.acquire(workdir / ".lock", wait=True):
        check()  # once more: another process may have claimed the folder just now
        records.write_json(workdir / CONFIG, config)
        records.write_json(workdir / ENVIRONMENT, setting)
    return setting


def environment(command):
    """Versions, devices, precision and command of this process, as a dict."""
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
        "dtype_policy": keras.config.dtype_policy().name,
        "devices": keras.distribution.list_devices(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
    }


def default_command():
    """The command that started this process, as the user can repeat it."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec else [pathlib.Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]
