"""Validation of configs, once, before anything is written; studies check their own fields."""

import inspect

from keras_svag._checks import english_list, finite_float, one_of, positive_int, reject_unknown
from keras_svag.config.optimizer import validate_optimizer
from keras_svag.config.schedule import validate_schedule
from keras_svag.datasets import DATASETS, SAMPLING_MODES
from keras_svag.models import MODELS
from keras_svag.schedules import increasing_fractions
from keras_svag.studies import STUDIES
from keras_svag.theory.verdicts.decision import validate_closeness

# Integers by their minimum.
INTEGERS = {
    "seed": 0,
    "num_workers": 0,
    "evaluation_size": 0,
    "num_seeds": 1,
    "num_records": 1,
    "num_checkpoints": 1,
    "base_batch_size": 1,
}
POSITIVE = ("epochs", "initial_scale", "learning_rate")
DICTS = ("dataset", "model", "optimizer", "schedule")
OTHERS = ("closeness", "equilibrium", "max_num_seeds", "sampling", "weight_decay")
FIELDS = sorted((*INTEGERS, *POSITIVE, *DICTS, *OTHERS))
OPTIONAL = {"checkpoint_steps": None, "vectorize_seeds": None}
# Coupled L2 regularization of all trained weights, besides decoupled `weight_decay`; may be absent.
L2 = "l2"
# Set by the study, not by its config.
RESERVED_MODEL_ARGUMENTS = ("input_shape", "num_classes", "seed")


def validate_config(config, study):
    """Returns a checked, plain nested dict of a config, without the fields of other studies."""
    config = to_plain(config)
    if not isinstance(config, dict):
        raise ValueError(
            "`config` must be a dict or a ConfigDict, such as that of configs/digits.py. "
            f"Received: config={config!r}"
        )
    config = OPTIONAL | config
    if study not in config and (others := [name for name in STUDIES if name in config]):
        raise ValueError(
            f"`{study}` must be given: this config is for {english_list(others)}. Received: no "
            f"field {study}. Use `python -m trainers.{others[0]}`, or another config, such as "
            "configs/digits.py."
        )
    _check_fields("", config, (*FIELDS, *OPTIONAL, L2, *STUDIES), required=(*FIELDS, study))
    config = select_study(config, study)
    for name in (*DICTS, study):
        if not isinstance(config[name], dict):
            raise ValueError(
                f"`{name}` must be a dict of fields. Received: {name}={config[name]!r}"
            )
    for name, minimum in INTEGERS.items():
        config[name] = positive_int(name, config[name], minimum)
    config["max_num_seeds"] = positive_int(
        "max_num_seeds", config["max_num_seeds"], minimum=config["num_seeds"]
    )
    if config["checkpoint_steps"] is not None:
        config["checkpoint_steps"] = positive_int("checkpoint_steps", config["checkpoint_steps"])
    for name in POSITIVE:
        config[name] = finite_float(name, config[name], "a number > 0", 0.0, exclusive=True)
    config["weight_decay"] = finite_float(
        "weight_decay", config["weight_decay"], "a number >= 0", 0.0
    )
    if L2 in config:
        config[L2] = finite_float(L2, config[L2], "a number >= 0", 0.0)
    config["optimizer"] = validate_optimizer(config)
    config["closeness"] = validate_closeness(config["closeness"])
    one_of("sampling", config["sampling"], SAMPLING_MODES)
    _check_options("dataset", config["dataset"], DATASETS)
    _check_options("model", config["model"], MODELS, RESERVED_MODEL_ARGUMENTS)
    config["schedule"] = validate_schedule(config["schedule"])
    config["equilibrium"] = increasing_fractions("equilibrium", config["equilibrium"])
    if len(config["equilibrium"]) != 2:
        raise ValueError(
            "`equilibrium` must be two fractions of the run, the ends of the averaging window. "
            f"Received: equilibrium={config['equilibrium']}"
        )
    return config


def select_study(config, study):
    """Returns a config without the fields of other studies; checks the names of this one's."""
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
                f"`{prefix}{name}` must be given. Received only: {', '.join(sorted(fields))}. "
                "Start from a config such as configs/digits.py."
            )


def _is_required(parameter):
    kinds = (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    return parameter.kind in kinds and parameter.default is parameter.empty


def _check_options(name, fields, functions, reserved=()):
    """Checks that `name.name` is in `functions` and the other fields are its arguments."""
    _check_fields(f"{name}.", fields, fields, required=("name",))
    function = functions[one_of(f"{name}.name", fields["name"], functions)]
    parameters = inspect.signature(function).parameters
    arguments = [a for a in parameters if a not in reserved]
    required = [a for a in arguments if _is_required(parameters[a])]
    _check_fields(f"{name}.", fields, ["name", *arguments], required)


def to_plain(config):
    """Converts a `ConfigDict` to nested dicts, and tuples to lists."""
    if hasattr(config, "items"):
        return {name: to_plain(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [to_plain(value) for value in config]
    return config
