"""What a study's config must hold: checked once, before anything is written."""

import inspect

import keras

from keras_svag._checks import LARGEST_INT, finite_float, one_of, positive_int
from keras_svag.coefficients import validate_ell
from keras_svag.datasets import DATASETS
from keras_svag.datasets.sampling import SAMPLING_MODES
from keras_svag.distribution import is_distributed
from keras_svag.models import MODELS
from keras_svag.resident import StackedLoop
from keras_svag.schedules import increasing_fractions
from keras_svag.study.fields import refuse_unknown
from keras_svag.study.optimizer import validate_optimizer
from keras_svag.study.schedule import validate_schedule
from keras_svag.validity import validate_closeness

FIELDS = (
    "base_batch_size",
    "closeness",
    "dataset",
    "epochs",
    "equilibrium",
    "evaluation_size",
    "initial_scale",
    "learning_rate",
    "max_num_seeds",
    "model",
    "num_checkpoints",
    "num_records",
    "num_seeds",
    "num_workers",
    "optimizer",
    "sampling",
    "schedule",
    "seed",
    "weight_decay",
)
# Fields that may be left out.
OPTIONAL = {"checkpoint_steps": None, "vectorize_seeds": None}
SDE_VALIDITY = "sde_validity"
NOISY_GRADIENT_DESCENT = "noisy_gradient_descent"
WEAK_CONVERGENCE = "weak_convergence"
LINEAR_SCALING = "linear_scaling"
TRAIN = "train"
# What a study has for itself; one config may serve several studies.
STUDIES = (SDE_VALIDITY, NOISY_GRADIENT_DESCENT, WEAK_CONVERGENCE, LINEAR_SCALING, TRAIN)

# By what the linear scaling rule is judged, and how the window of the means is found.
CLOSENESS, WEIGHT_NORM, TEST_ACCURACY = "closeness", "weight_norm", "test_accuracy"
CRITERIA = (CLOSENESS, WEIGHT_NORM, TEST_ACCURACY)
AUTO, FROM_CONFIG = "auto", "config"
PHASES = (AUTO, FROM_CONFIG)

# Arguments of a model's function that are not for the config.
GIVEN_TO_MODELS = ("input_shape", "num_classes", "seed")

# Changing these adds or re-judges runs but leaves finished runs as they are.
# A run of `train` is all there is to it: what it asks for may not change.
GROWABLE = (
    "checkpoint_steps",
    "closeness",
    "equilibrium",
    "max_num_seeds",
    "num_seeds",
    "num_workers",
    "vectorize_seeds",
    *(study for study in STUDIES if study != TRAIN),
)


def validate_config(config, study=SDE_VALIDITY):
    """Checks every field of a study's config.

    Args:
        config: nested dict, such as `configs/digits.py` gives as a `ConfigDict`.
        study: name of the study; what the config has for other studies is left out.

    Returns:
        A plain nested dict with the same content, numbers as Python ints and floats.

    Raises:
        ValueError: naming the field, what was expected, and what was received.
    """
    config = _to_plain(config)
    if not isinstance(config, dict):
        raise ValueError(
            "`config` must be a dict of fields, or a ConfigDict, such as configs/digits.py gives. "
            f"Received: config={config!r}"
        )
    config = OPTIONAL | config
    _check_fields("", config, (*FIELDS, *OPTIONAL, *STUDIES), required=(*FIELDS, study))
    config = {name: config[name] for name in config if name not in STUDIES or name == study}
    for name in ("dataset", "model", "optimizer", "schedule", study):
        if not isinstance(config[name], dict):
            raise ValueError(
                f"`{name}` must be a dict of fields. Received: {name}={config[name]!r}"
            )
    config["seed"] = positive_int("seed", config["seed"], minimum=0)
    for name in ("num_seeds", "num_records", "num_checkpoints", "base_batch_size"):
        config[name] = positive_int(name, config[name])
    config["max_num_seeds"] = positive_int(
        "max_num_seeds", config["max_num_seeds"], minimum=config["num_seeds"]
    )
    if config["checkpoint_steps"] is not None:
        config["checkpoint_steps"] = positive_int("checkpoint_steps", config["checkpoint_steps"])
    config["num_workers"] = positive_int("num_workers", config["num_workers"], minimum=0)
    _check_vectorize_seeds(config["vectorize_seeds"], config["num_workers"])
    config["evaluation_size"] = positive_int("evaluation_size", config["evaluation_size"], 0)
    for name in ("epochs", "initial_scale", "learning_rate"):
        config[name] = finite_float(name, config[name], "a number > 0", 0.0, exclusive=True)
    config["weight_decay"] = finite_float("weight_decay", config["weight_decay"], ">= 0", 0.0)
    config["optimizer"] = validate_optimizer(config)
    config["closeness"] = validate_closeness(config["closeness"])
    one_of("sampling", config["sampling"], SAMPLING_MODES)
    _check_options("dataset", config["dataset"], DATASETS)
    _check_options("model", config["model"], MODELS, GIVEN_TO_MODELS)
    config["schedule"] = validate_schedule(config["schedule"])
    config["equilibrium"] = increasing_fractions("equilibrium", config["equilibrium"])
    if len(config["equilibrium"]) != 2:
        raise ValueError(
            "`equilibrium` must be two fractions, the start and end of the averaging window. "
            f"Received: equilibrium={config['equilibrium']}"
        )
    VALIDATORS[study](config[study])
    return config


def _check_vectorize_seeds(value, num_workers):
    if value is not None and not isinstance(value, bool):
        raise ValueError(
            "`vectorize_seeds` must be True, False, or None for accelerators only. "
            f"Received: vectorize_seeds={value!r}"
        )
    if not value:
        return
    if StackedLoop is None:
        raise ValueError(
            f"`vectorize_seeds` must be None or False on {keras.backend.backend()}, which cannot "
            "vectorise a train step. Received: vectorize_seeds=True. Use KERAS_BACKEND=jax and "
            "another --workdir, or leave it out."
        )
    if is_distributed():
        raise ValueError(
            "`vectorize_seeds` must be None or False under a strategy, which gives each run all "
            "devices. Received: vectorize_seeds=True. Use --strategy=none, or leave it out."
        )
    if num_workers > 1:
        raise ValueError(
            "`vectorize_seeds` must be None or False with several processes: one program does "
            f"all seeds. Received: vectorize_seeds=True, num_workers={num_workers}. Set "
            "--config.num_workers=1, or leave it out."
        )


def _check_fields(prefix, fields, known, required):
    refuse_unknown(prefix, fields, known)
    for name in required:
        if name not in fields:
            raise ValueError(
                f"`{prefix}{name}` must be given. Received a config with only "
                f"{', '.join(sorted(fields))}. Start from a config such as configs/digits.py."
            )


def _check_options(name, fields, functions, ignore=()):
    """Checks `name.name` and that the other fields are arguments of the function it names."""
    _check_fields(f"{name}.", fields, fields, required=("name",))
    function = functions[one_of(f"{name}.name", fields["name"], functions)]
    arguments = [a for a in inspect.signature(function).parameters if a not in ignore]
    _check_fields(f"{name}.", fields, ["name", *arguments], required=())


def _validate_grid(grid):
    names = ("batch_sizes", "ells")
    _check_fields("sde_validity.", grid, names, required=names)
    grid["batch_sizes"] = _listed(
        "sde_validity.batch_sizes", grid["batch_sizes"], lambda b: positive_int("batch_size", b)
    )
    grid["ells"] = _listed("sde_validity.ells", grid["ells"], validate_ell)
    if 1.0 not in grid["ells"]:
        raise ValueError(
            "`sde_validity.ells` must contain 1, which is SGD itself. "
            f"Received: ells={grid['ells']}"
        )


def _validate_noisy_gradient_descent(grid):
    names = ("batch_sizes", "margins", "noise_steps", "num_seeds")
    _check_fields(f"{NOISY_GRADIENT_DESCENT}.", grid, names, required=names)
    prefix = NOISY_GRADIENT_DESCENT
    grid["num_seeds"] = positive_int(f"{prefix}.num_seeds", grid["num_seeds"])
    grid["batch_sizes"] = [
        positive_int(f"{prefix}.batch_sizes", size) for size in _as_list(grid["batch_sizes"])
    ]
    grid["noise_steps"] = _listed(
        f"{prefix}.noise_steps",
        grid["noise_steps"],
        lambda m: finite_float("noise_steps", m, "numbers >= 1", 1.0),
    )
    grid["margins"] = [
        finite_float(f"{prefix}.margins", margin, "numbers in (0, 1)", 0.0, exclusive=True)
        for margin in _as_list(grid["margins"])
    ]
    if grid["noise_steps"][0] != 1:
        raise ValueError(
            f"`{prefix}.noise_steps` must contain 1, which is SGD against NGD. "
            f"Received: noise_steps={grid['noise_steps']}"
        )
    if len(grid["margins"]) != len(grid["batch_sizes"]):
        raise ValueError(
            f"`{prefix}.margins` must have one entry for each of the batch sizes "
            f"{grid['batch_sizes']}. Received: margins={grid['margins']}"
        )


WEAK_CONVERGENCE_FIELDS = (
    "ells",
    "linear_a",
    "linear_b",
    "linear_ells",
    "linear_horizon",
    "linear_learning_rate",
    "linear_start",
    "noise_steps",
    "num_chains",
    "simulated_ells",
)


def _validate_weak_convergence(study):
    prefix = f"{WEAK_CONVERGENCE}."
    _check_fields(prefix, study, WEAK_CONVERGENCE_FIELDS, required=WEAK_CONVERGENCE_FIELDS)
    for name in ("ells", "linear_ells", "simulated_ells"):
        study[name] = _listed(f"{prefix}{name}", study[name], validate_ell)
        if len(study[name]) < 2:
            raise ValueError(
                f"`{prefix}{name}` must have at least two values, to see an order. "
                f"Received: {name}={study[name]}"
            )
    for name in ("linear_horizon", "num_chains"):
        study[name] = positive_int(f"{prefix}{name}", study[name])
    for name in ("linear_a", "linear_b"):
        study[name] = [
            finite_float(f"{prefix}{name}", value, "finite numbers")
            for value in _as_list(study[name])
        ]
    if len(study["linear_a"]) != len(study["linear_b"]):
        raise ValueError(
            f"`{prefix}linear_b` must be as long as linear_a, {len(study['linear_a'])}. "
            f"Received: linear_b={study['linear_b']}"
        )
    for name in ("linear_learning_rate", "linear_start"):
        study[name] = finite_float(f"{prefix}{name}", study[name], "a finite number")
    study["noise_steps"] = _listed(
        f"{prefix}noise_steps",
        study["noise_steps"],
        lambda m: finite_float("noise_steps", m, "numbers >= 1", 1.0),
    )
    if len(study["noise_steps"]) != 2 or study["noise_steps"][0] < 2 * study["ells"][-1]:
        raise ValueError(
            f"`{prefix}noise_steps` must be two numbers, to extrapolate from, of at least twice "
            f"the largest ell, {study['ells'][-1]:g}: at m = l both have the same mean and "
            f"covariance. Received: noise_steps={study['noise_steps']}. Take them much larger."
        )


def _validate_train(fields):
    names = ("batch_size", "ell")
    _check_fields(f"{TRAIN}.", fields, names, required=names)
    fields["batch_size"] = positive_int(f"{TRAIN}.batch_size", fields["batch_size"])
    fields["ell"] = validate_ell(fields["ell"])


def _validate_linear_scaling(study):
    prefix = f"{LINEAR_SCALING}."
    names = ("batch_sizes", "criterion", "phase", "tolerance")
    _check_fields(prefix, study, names, required=names)
    study["batch_sizes"] = _listed(
        f"{prefix}batch_sizes", study["batch_sizes"], lambda b: positive_int("batch_size", b)
    )
    one_of(f"{prefix}criterion", study["criterion"], CRITERIA)
    one_of(f"{prefix}phase", study["phase"], PHASES)
    study["tolerance"] = finite_float(
        f"{prefix}tolerance", study["tolerance"], "a number > 0", 0.0, exclusive=True
    )


VALIDATORS = {
    SDE_VALIDITY: _validate_grid,
    NOISY_GRADIENT_DESCENT: _validate_noisy_gradient_descent,
    TRAIN: _validate_train,
    WEAK_CONVERGENCE: _validate_weak_convergence,
    LINEAR_SCALING: _validate_linear_scaling,
}


def _listed(name, values, check):
    values = sorted({check(value) for value in _as_list(values)})
    if not values:
        raise ValueError(f"`{name}` must not be empty. Received: {name}={values}")
    return values


def _as_list(values):
    return list(values) if isinstance(values, (list, tuple)) else [values]


def _to_plain(config):
    if hasattr(config, "items"):
        return {name: _to_plain(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_to_plain(value) for value in config]
    return config


def effective_steps(config, num_train, batch_size):
    """Steps of the SGD run at `batch_size`: `epochs * n / B`, rounded.

    Args:
        config: a validated config.
        num_train: n, number of training examples.
        batch_size: B.

    Returns:
        An int >= 1.
    """
    steps = config["epochs"] * num_train / batch_size
    if not steps <= LARGEST_INT:
        raise ValueError(
            "`epochs` must be so small that the number of steps is an integer of 64 bits. "
            f"Received: epochs={config['epochs']}"
        )
    return max(1, round(steps))


# Where the same data lie is not what a run is.
PLACES = ("dataset.data_dir",)


def differences(old, new, ignore=GROWABLE, prefix=""):
    """Fields in which two configs differ, as `name: old -> new`.

    Args:
        old: nested dict.
        new: nested dict.
        ignore: top-level names that may differ.
        prefix: for recursion.

    Returns:
        A list of strings.
    """
    changed = []
    for name in sorted(set(old) | set(new)):
        if (not prefix and name in ignore) or f"{prefix}{name}" in PLACES:
            continue
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            changed += differences(a, b, (), f"{prefix}{name}.")
        elif a != b and not (a != a and b != b):
            changed.append(f"{prefix}{name}: {a!r} -> {b!r}")
    return changed
