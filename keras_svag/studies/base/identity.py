"""Whether a folder belongs to a study: the same settings, data, network, backend and precision."""

import math

# Where the same things lie is not what a run is; a digest only sums up what stands beside it.
PLACES = ("dataset.data_dir", "recipe.source", "recipe.digest")
# Changing these adds runs, or judges them anew, but leaves finished runs as they are.
MUTABLE_FIELDS = (
    "checkpoint_steps",
    "closeness",
    "equilibrium",
    "max_num_seeds",
    "num_seeds",
    "num_workers",
    "vectorize_seeds",
)
EXACT = ("function", "layers", "parameters", "variables")
# Relative differences between machines: of a network's outputs, and of weights that are drawn.
_ROUNDING = {"outputs": 1e-2, "weights": 1e-4}


def differences(old, new, mutable=MUTABLE_FIELDS, prefix=""):
    """Fields in which two configs differ, as `name: old -> new`.

    Args:
        old: nested dict.
        new: nested dict.
        mutable: top-level names that may differ.
        prefix: for recursion.

    Returns:
        A list of strings.
    """
    changed = []
    for name in sorted(set(old) | set(new)):
        if (not prefix and name in mutable) or f"{prefix}{name}" in PLACES:
            continue
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, (), f"{prefix}{name}.")
        elif a != b and not (a != a and b != b):
            changed.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return changed


def check_same_config(workdir, existing, config, mutable):
    """Raises if the runs of a folder were made with other settings.

    Args:
        workdir: the folder.
        existing: what its `config.json` holds, or `None`.
        config: the settings now, as JSON holds them.
        mutable: top-level names that may differ, beside `MUTABLE_FIELDS`.

    Raises:
        ValueError: naming the fields.
    """
    changed = differences(existing or config, config, (*MUTABLE_FIELDS, *mutable))
    if changed:
        raise ValueError(
            "`workdir` must be new or belong to the same config: its runs were made with "
            f"other settings ({'; '.join(changed)}). Received: workdir={str(workdir)!r}. "
            "Use another --workdir, or undo the changes."
        )


def check_same_environment(workdir, before, now):
    """Raises if the runs of a folder saw other data, another network, backend or precision.

    Args:
        workdir: the folder.
        before: what its `environment.json` holds; `{}` if there is none.
        now: the same of this process.

    Raises:
        ValueError: saying what differs.
    """
    if before.get("data", now["data"]) != now["data"]:
        raise ValueError(
            "`workdir` must be new or belong to the same data: its runs have seen other examples "
            f"(sha256 {before['data']['sha256'][:12]}, now {now['data']['sha256'][:12]}). "
            f"Received: workdir={str(workdir)!r}. Use another --workdir, or the data of before."
        )
    model, wanted = before.get("model"), now.get("model")
    if model and wanted and not _is_same_network(model, wanted):
        raise ValueError(
            "`workdir` must be new or belong to the same model: its runs trained another network "
            f"({_describe(model)}; now {_describe(wanted)}). Received: "
            f"workdir={str(workdir)!r}. Use another --workdir, or the model of before."
        )
    backend = before.get("backend", now["backend"])
    if backend != now["backend"]:
        raise ValueError(
            "`workdir` must be new or belong to the same Keras backend, since a seed gives other "
            f"initial weights on each: its runs were made under {backend!r}. Received: "
            f"workdir={str(workdir)!r} under {now['backend']!r}. Use another --workdir, or set "
            f"KERAS_BACKEND={backend}."
        )
    policy = before.get("dtype_policy", now["dtype_policy"])
    if policy != now["dtype_policy"]:
        raise ValueError(
            "`workdir` must be new or belong to the same dtype policy: its runs were made under "
            f"{policy!r}. Received: workdir={str(workdir)!r} under {now['dtype_policy']!r}. Use "
            f"another --workdir, or keras.config.set_dtype_policy({policy!r})."
        )


def _describe(model):
    return (
        f"{model['parameters']:,} parameters, layers {model.get('layers')}, mean output "
        f"{model['outputs']:g}, function {model.get('function')}"
    )


def _is_same_network(a, b):
    same = all(a.get(name) == b[name] for name in EXACT)
    return same and all(
        math.isclose(a[name], b[name], rel_tol=tolerance, abs_tol=1e-9 + 1e-3 * tolerance)
        for name, tolerance in _ROUNDING.items()
    )
