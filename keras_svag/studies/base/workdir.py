"""The folder of a study: which study it belongs to, and what its run was made with."""

import json
import math
import os
import pathlib
import platform
import sys

import keras

from keras_svag.distribution import check_same_on_all, num_processes
from keras_svag.engine.files import lock, records, storage
from keras_svag.engine.processes import preemption
from keras_svag.version import package_versions

PACKAGES = (
    *("tensorflow", "tensorflow-cpu", "tensorflow-datasets", "jax", "jaxlib", "keras"),
    *("numpy", "scipy", "scikit-learn"),
)
CONFIG, ENVIRONMENT = "config.json", "environment.json"


def describe_environment(study, command=None):
    """The content of `environment.json`: process, data, network, and the identity of the study."""
    environment = {**describe_process(command), **study.describe_environment()}
    return {**environment, "identity": identify(study, environment)}


def prepare_workdir(workdir, study, command=None, environment=None):
    """Writes `config.json` and `environment.json`, unless the folder belongs to another study."""
    workdir = storage.to_path(workdir)
    config = records.to_json(study.describe())
    environment = environment or describe_environment(study, command)
    shared = {**_identifying(config), "identity": environment["identity"]}
    check_same_on_all("study", lambda: shared)

    def check():
        if storage.exists(workdir) and not storage.is_folder(workdir):
            raise ValueError(
                "`workdir` must be a folder, or not exist yet. "
                f"Received: workdir={str(workdir)!r}, a file. Use another workdir."
            )
        old_config = records.read_sealed(workdir / CONFIG) or config
        check_same_config(workdir, old_config, config, study.mutable_fields)
        old_environment = records.read_sealed(workdir / ENVIRONMENT) or {}
        check_same_environment(workdir, old_environment, environment)

    check()
    records.make_folder(workdir, parents=True)
    with lock.acquire(workdir / ".lock", wait=True, check=_end_wait):
        check()  # again: another process may have written the files in the meantime
        records.write_sealed(workdir / CONFIG, config)
        records.write_sealed(workdir / ENVIRONMENT, environment)
        clean_up(workdir)
    return environment


def _end_wait():
    """Raises if a signal asks to stop; among several processes, of which one waits, never."""
    if num_processes() == 1:
        preemption.raise_if_requested()


def clean_up(workdir):
    """Removes what killed processes left; the caller holds the lock of the workdir."""
    storage.remove_temporaries(workdir)
    for path in storage.find(workdir, "runs/*/lock"):
        if storage.exists(path.with_name("result.json")):
            with lock.acquire(path) as held:
                if held:
                    storage.remove(path)


def describe_process(command=None):
    """Versions, devices, precision and command of this process."""
    return {
        "command": command or default_command(),
        "versions": package_versions(PACKAGES),
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
        if f"{prefix}{name}" in (*mutable, *IGNORED_FIELDS):
            continue
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, mutable, f"{prefix}{name}.")
        elif a != b and not (a != a and b != b):  # NaN is the same as NaN
            changed.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return changed


def identify(study, environment):
    """Digest of what all runs of a study have in common, whatever may change set aside."""
    parts = {name: environment[name] for name in ("data", "backend", "dtype_policy")}
    model = environment.get("model", {})
    parts["model"] = {name: model.get(name) for name in EXACT_FIELDS}
    mutable = (*MUTABLE_FIELDS, *study.mutable_fields)
    parts["config"] = _identifying(records.to_json(study.describe()), mutable)
    return records.sha256(json.dumps(parts, sort_keys=True).encode())[:16]


def _identifying(value, mutable=(), prefix=""):
    """The part of a config that `differences` compares; equal numbers have one form."""
    if isinstance(value, dict):
        return {
            name: _identifying(item, mutable, f"{prefix}{name}.")
            for name, item in value.items()
            if item is not None and f"{prefix}{name}" not in (*mutable, *IGNORED_FIELDS)
        }
    if isinstance(value, list):
        return [_identifying(item, mutable, prefix) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
