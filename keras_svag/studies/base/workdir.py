"""The folder of a study: its config and the environment of its last call."""

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
    *("tensorflow", "tensorflow-cpu", "tensorflow-datasets", "jax", "jaxlib", "keras"),
    *("numpy", "scipy", "scikit-learn"),
)
CONFIG, ENVIRONMENT = "config.json", "environment.json"


def prepare_workdir(workdir, study, command=None):
    """Writes `config.json` and `environment.json`, unless the folder belongs to another study."""
    workdir = pathlib.Path(workdir)
    config = records.to_json(study.describe())
    environment = {**describe_process(command), **study.describe_environment()}

    def check():
        if workdir.exists() and not workdir.is_dir():
            raise ValueError(
                "`workdir` must be a folder, or not exist yet. "
                f"Received: workdir={str(workdir)!r}, a file. Use another workdir."
            )
        old_config = records.read_json(workdir / CONFIG) or config
        check_same_config(workdir, old_config, config, study.mutable_fields)
        check_same_environment(workdir, records.read_json(workdir / ENVIRONMENT) or {}, environment)

    check()
    with lock.acquire(workdir / ".lock", wait=True):
        check()  # again: another process may have written the files in the meantime
        records.write_json(workdir / CONFIG, config)
        records.write_json(workdir / ENVIRONMENT, environment)
    return environment


def describe_process(command=None):
    """Versions, devices, precision and command of this process."""
    versions = {"python": platform.python_version(), "keras_svag": __version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": command or default_command(),
        "versions": versions,
        "backend": keras.backend.backend(),
        "dtype_policy": keras.config.dtype_policy().name,
        "devices": keras.distribution.list_devices(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_count": os.cpu_count(),
    }


def default_command():
    """The command that started this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec else [pathlib.Path(sys.argv[0]).name]
    return [*program, *sys.argv[1:]]
