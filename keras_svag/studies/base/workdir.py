"""The folder of a study: which study it belongs to, and what its run was made with."""

import importlib.metadata
import math
import os
import pathlib
import platform
import sys

import keras

from keras_svag.engine.files import lock, records
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
        old_config = read_settings(workdir, CONFIG) or config
        check_same_config(workdir, old_config, config, study.mutable_fields)
        check_same_environment(workdir, read_settings(workdir, ENVIRONMENT) or {}, environment)

    check()
    with records.writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    with lock.acquire(workdir / ".lock", wait=True):
        check()  # again: another process may have written the files in the meantime
        records.write_json(workdir / CONFIG, config)
        records.write_json(workdir / ENVIRONMENT, environment)
    return environment


def read_settings(workdir, name):
    """Reads `config.json` or `environment.json`; `None` if there is none."""
    content = records.read_json(workdir / name)
    is_intact = content is None or isinstance(content, dict)
    if not is_intact or (content and name == ENVIRONMENT and not _is_intact(content)):
        raise records.damaged(workdir / name, "it is not as it was written")
    return content


def _is_intact(environment):
    """Returns False unless data and network, where they are given, can be compared."""
    data, network = environment.get("data", {"sha256": ""}), environment.get("model")
    if not isinstance(data, dict) or not isinstance(data.get("sha256"), str):
        return False
    numbers = ("parameters", *RELATIVE_TOLERANCES)
    return network is None or (
        isinstance(network, dict)
        and all(isinstance(network.get(name), (int, float)) for name in numbers)
    )


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


# Fields that add runs or change the verdict, but not the runs that are finished.
MUTABLE_FIELDS = (
    "checkpoint_steps",
    "closeness",
    "equilibrium",
    "max_num_seeds",
    "num_seeds",
    "num_workers",
    "vectorize_seeds",
)
# Fields that say where things are stored, not what they are; and a digest of other fields.
IGNORED_FIELDS = ("dataset.data_dir", "recipe.source", "recipe.digest")
# Fields of a network that must be equal, and those that may differ by rounding between machines.
EXACT_FIELDS = ("function", "layers", "parameters", "variables")
RELATIVE_TOLERANCES = {"outputs": 1e-2, "weights": 1e-4}


def differences(old, new, mutable=MUTABLE_FIELDS, prefix=""):
    """Fields in which two nested dicts differ, as `name: old -> new`."""
    changed = []
    for name in sorted(set(old) | set(new)):
        if (not prefix and name in mutable) or f"{prefix}{name}" in IGNORED_FIELDS:
            continue
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, (), f"{prefix}{name}.")
        elif a != b and not (a != a and b != b):  # NaN is the same as NaN
            changed.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return changed


def check_same_config(workdir, old, new, mutable):
    """Raises if the config of a folder differs in more than the mutable fields."""
    if changed := differences(old, new, (*MUTABLE_FIELDS, *mutable)):
        _refuse(workdir, "config", f"other settings ({'; '.join(changed)})", "undo the changes")


def check_same_environment(workdir, old, new):
    """Raises if the runs of a folder have other data, another model, backend or dtype policy."""
    data = old.get("data", new["data"])
    if data != new["data"]:
        hashes = f"sha256 {data['sha256'][:12]}, now {new['data']['sha256'][:12]}"
        _refuse(workdir, "data", f"other examples ({hashes})", "restore the data")
    model, new_model = old.get("model"), new.get("model")
    if model and new_model and not is_same_network(model, new_model):
        models = f"{_describe_network(model)}; now {_describe_network(new_model)}"
        _refuse(workdir, "model", f"another network ({models})", "restore the model")
    backend, policy = (old.get(name, new[name]) for name in ("backend", "dtype_policy"))
    if backend != new["backend"]:
        reason = f"the backend {backend!r} (now {new['backend']!r}), which draws other weights"
        _refuse(workdir, "Keras backend", reason, f"set KERAS_BACKEND={backend}")
    if policy != new["dtype_policy"]:
        reason = f"the policy {policy!r} (now {new['dtype_policy']!r})"
        _refuse(workdir, "dtype policy", reason, f"keras.config.set_dtype_policy({policy!r})")


def _refuse(workdir, what, reason, remedy):
    raise ValueError(
        f"`workdir` must be new or belong to the same {what}: its runs were made with {reason}. "
        f"Received: workdir={str(workdir)!r}. Use another workdir, or {remedy}."
    )


def _describe_network(model):
    return (
        f"{model['parameters']:,} parameters, layers {model.get('layers')}, mean output "
        f"{model['outputs']:g}, function {model.get('function')}"
    )


def is_same_network(a, b):
    """Returns True if two descriptions of a network agree up to rounding."""
    return all(a.get(name) == b[name] for name in EXACT_FIELDS) and all(
        math.isclose(a[name], b[name], rel_tol=tolerance, abs_tol=1e-9 + 1e-3 * tolerance)
        for name, tolerance in RELATIVE_TOLERANCES.items()
    )
