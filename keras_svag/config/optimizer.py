"""The optimizer that a config names."""

import inspect

from keras_svag._checks import one_of, reject_unknown
from keras_svag.optimizers.registry import get_svag_class, svag_classes
from keras_svag.optimizers.scaling import AUTO, scale_optimizer

# Arguments that come from other fields of the config.
RESERVED_OPTIMIZER_ARGUMENTS = ("self", "learning_rate", "ell", "weight_decay", "kwargs", "name")


def validate_optimizer(config):
    """Checks the `optimizer` part of a config.

    Args:
        config: dict with `optimizer` (a dict with `name`, the class name of an SVAG optimizer, its
            hyperparameters at the base batch size, and optionally `rule`, by which they change
            with the batch size: see `keras_svag.scale_optimizer`), `learning_rate` and
            `weight_decay`.

    Returns:
        The `optimizer` part, without what is `None` (placeholders that nobody filled).

    Raises:
        ValueError: naming the field, what was expected, and what was received.
    """
    fields = {k: v for k, v in config["optimizer"].items() if v is not None}
    names = svag_classes()
    if "name" not in fields:
        raise ValueError(
            f"`optimizer.name` must be given: one of {', '.join(names)}. "
            f"Received: optimizer={fields!r}"
        )
    cls = get_svag_class(one_of("optimizer.name", fields["name"], names))
    known = [a for a in inspect.signature(cls).parameters if a not in RESERVED_OPTIMIZER_ARGUMENTS]
    owner = f"optimizer {fields['name']!r}"
    reject_unknown("optimizer.", fields, ["name", "rule", *known], owner)
    try:
        optimizer, rule = build_optimizer({**config, "optimizer": fields})
    # Keras' own message does not say which field of the config, if it has one.
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"`optimizer` must be what {fields['name']} takes. Received: optimizer={fields!r}; "
            f"{error}"
        ) from error
    scale_optimizer(optimizer, 1.0, rule)
    return fields


def build_optimizer(config):
    """The optimizer of a config and the name of its scaling rule."""
    options = dict(config["optimizer"])
    rule = options.pop("rule", None) or AUTO
    cls = get_svag_class(options.pop("name"))
    return cls(config["learning_rate"], weight_decay=config["weight_decay"], **options), rule
