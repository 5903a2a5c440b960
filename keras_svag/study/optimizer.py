"""The optimizer that a config names, at the batch size of a run."""

import inspect

from keras_svag._checks import one_of
from keras_svag.optimizers import SVAG, get_svag_class, svag_classes
from keras_svag.optimizers.scaling import find_rule, scale_optimizer
from keras_svag.study.fields import refuse_unknown
from keras_svag.theory.scaling_rules import AUTO

# Arguments that the study gives itself, from other fields of the config.
GIVEN_TO_OPTIMIZERS = ("self", "learning_rate", "ell", "weight_decay", "kwargs", "name")


def validate_optimizer(config):
    """Checks the `optimizer` part of a config.

    Args:
        config: dict with `optimizer` (a dict with `name`, an SVAG optimizer of the package
            or yours, its hyperparameters at the base batch size, and optionally `rule`, by which
            they change with the batch size: see `keras_svag.scale_optimizer`), `learning_rate`
            and `weight_decay`.

    Returns:
        The `optimizer` part, without what is `None` (placeholders that nobody filled).

    Raises:
        ValueError: naming the field, what was expected, and what was received.
    """
    fields = {k: v for k, v in config["optimizer"].items() if v is not None}
    if "name" not in fields:
        raise ValueError(
            f"`optimizer.name` must be given: one of {', '.join(svag_classes())}. "
            f"Received: optimizer={fields!r}"
        )
    cls = get_svag_class(one_of("optimizer.name", fields["name"], svag_classes()))
    known = [a for a in inspect.signature(cls).parameters if a not in GIVEN_TO_OPTIMIZERS]
    owner = f"optimizer {fields['name']!r}"
    refuse_unknown("optimizer.", fields, ["name", "rule", *known], owner)
    config = {**config, "optimizer": fields}
    try:
        _base_optimizer(config)
    # Keras' own message does not say which field of the config, if it has one.
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`optimizer` must be what {fields['name']} takes. Received: optimizer={fields!r}; "
            f"{error}"
        ) from error
    scaled_learning_rate(config, config["base_batch_size"])
    return fields


def is_plain_sgd(config):
    """Whether the config's optimizer is SGD without momentum, for which the theory is exact."""
    return config["optimizer"]["name"] == SVAG.__name__ and not config["optimizer"].get("momentum")


def require_plain_sgd(config, study):
    """Raises where a study models SGD without momentum and the config has another optimizer.

    Args:
        config: a validated config.
        study: name of the study, for the message.

    Raises:
        ValueError: if the optimizer is not SGD without momentum.
    """
    if not is_plain_sgd(config):
        raise ValueError(
            f"`optimizer` must be SVAG without momentum in the study {study}, which compares with "
            f"Gaussian steps of plain SGD. Received: optimizer={config['optimizer']!r}"
        )


def scaled_learning_rate(config, batch_size):
    """Learning rate at `batch_size` by the scaling rule of the config's optimizer.

    Args:
        config: a validated config.
        batch_size: B.

    Returns:
        A float: for SGD without momentum `learning_rate * B / base_batch_size`.
    """
    optimizer, rule = _base_optimizer(config)
    power = find_rule(optimizer, rule).powers["learning_rate"]
    return config["learning_rate"] * (batch_size / config["base_batch_size"]) ** power


def scaled_weight_decay(config, batch_size):
    """Weight decay at `batch_size` by the scaling rule of the config's optimizer.

    Args:
        config: a validated config.
        batch_size: B.

    Returns:
        A float.
    """
    optimizer, rule = _base_optimizer(config)
    power = find_rule(optimizer, rule).powers.get("weight_decay", 0)
    return config["weight_decay"] * (batch_size / config["base_batch_size"]) ** power


def build_optimizer(config, batch_size, schedule):
    """The optimizer of a run.

    Args:
        config: a validated config.
        batch_size: B; hyperparameters are scaled from those at `base_batch_size`.
        schedule: learning rate of the run, a float or a Keras schedule.

    Returns:
        An SVAG optimizer with `ell = 1`.

    Raises:
        ValueError: if the rule does not allow this batch size.
    """
    optimizer, rule = _base_optimizer(config)
    scaled = scale_optimizer(optimizer, batch_size / config["base_batch_size"], rule)
    return type(scaled).from_config({**scaled.get_config(), "learning_rate": schedule})


def _base_optimizer(config):
    options = dict(config["optimizer"])
    rule = options.pop("rule", None) or AUTO
    cls = get_svag_class(options.pop("name"))
    optimizer = cls(config["learning_rate"], weight_decay=config["weight_decay"], **options)
    return optimizer, rule
