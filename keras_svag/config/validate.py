"""Checks of a config: once, before anything is written. A study checks its own fields."""

import inspect

from keras_svag._checks import finite_float, one_of, positive_int, reject_unknown
from keras_svag.config.optimizer import validate_optimizer
from keras_svag.config.schedule import validate_schedule
from keras_svag.datasets import DATASETS, SAMPLING_MODES
from keras_svag.models import MODELS
from keras_svag.schedules import increasing_fractions
from keras_svag.studies import STUDIES
from keras_svag.theory.validity import validate_closeness

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
# Arguments of a model's function that are not for the config.
RESERVED_MODEL_ARGUMENTS = ("input_shape", "num_classes", "seed")


def validate_config(config, study):
    """Checks every field of a study's config.

    Args:
        config: nested dict, such as `configs/digits.py` gives as a `ConfigDict`.
        study: name of the study; what the config has for other studies is left out.

    Returns:
        A plain nested dict with the same content, numbers as Python ints and floats.

    Raises:
        ValueError: naming the field, what was expected, and what was received.
    """
    config = to_plain(config)
    if not isinstance(config, dict):
        raise ValueError(
            "`config` must be a dict of fields, or a ConfigDict, such as configs/digits.py gives. "
            f"Received: config={config!r}"
        )
    config = OPTIONAL | config
    _check_fields("", config, (*FIELDS, *OPTIONAL, *STUDIES), required=(*FIELDS, study))
    config = select_study(config, study)
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
    config["evaluation_size"] = positive_int("evaluation_size", config["evaluation_size"], 0)
    for name in ("epochs", "initial_scale", "learning_rate"):
        config[name] = finite_float(name, config[name], "a number > 0", 0.0, exclusive=True)
    config["weight_decay"] = finite_float("weight_decay", config["weight_decay"], ">= 0", 0.0)
    config["optimizer"] = validate_optimizer(config)
    config["closeness"] = validate_closeness(config["closeness"])
    one_of("sampling", config["sampling"], SAMPLING_MODES)
    _check_options("dataset", config["dataset"], DATASETS)
    _check_options("model", config["model"], MODELS, RESERVED_MODEL_ARGUMENTS)
    config["schedule"] = validate_schedule(config["schedule"])
    config["equilibrium"] = increasing_fractions("equilibrium", config["equilibrium"])
    if len(config["equilibrium"]) != 2:
        raise ValueError(
            "`equilibrium` must be two fractions, the start and end of the averaging window. "
            f"Received: equilibrium={config['equilibrium']}"
        )
    return config


def select_study(config, study):
    """The config without what it has for other studies; the study's own fields must be known."""
    names = [name for name in config if name not in STUDIES or name == study]
    fields = config.get(study) or {}
    if isinstance(fields, dict):
        reject_unknown(f"{study}.", fields, STUDIES[study].own_fields)
    return {name: config[name] for name in names}


def _check_fields(prefix, fields, known, required):
    reject_unknown(prefix, fields, known)
    for name in required:
        if name not in fields:
            raise ValueError(
                f"`{prefix}{name}` must be given. Received a config with only "
                f"{', '.join(sorted(fields))}. Start from a config such as configs/digits.py."
            )


def _is_required(parameter):
    kinds = (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return parameter.kind in kinds and parameter.default is parameter.empty


def _check_options(name, fields, functions, ignore=()):
    """Checks `name.name` and that the other fields are arguments of the function it names."""
    _check_fields(f"{name}.", fields, fields, required=("name",))
    function = functions[one_of(f"{name}.name", fields["name"], functions)]
    parameters = inspect.signature(function).parameters
    arguments = [a for a in parameters if a not in ignore]
    required = [a for a in arguments if _is_required(parameters[a])]
    _check_fields(f"{name}.", fields, ["name", *arguments], required)


def to_plain(config):
    """A plain nested dict of a `ConfigDict`; tuples become lists."""
    if hasattr(config, "items"):
        return {name: to_plain(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config
