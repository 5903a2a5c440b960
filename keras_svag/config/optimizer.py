"""The optimizer of a config."""

import inspect
import re

from keras_svag._checks import as_list, one_line, one_of, reject_unknown
from keras_svag.optimizers.registry import get_svag_class, svag_classes
from keras_svag.optimizers.scaling import AUTO, scale_optimizer

# Set by other fields of the config.
RESERVED_OPTIMIZER_ARGUMENTS = ("self", "learning_rate", "ell", "weight_decay", "kwargs", "name")

# Parts of the names of variables without weight decay, as in the method of this name.
EXCLUDED = "exclude_from_weight_decay"


def validate_optimizer(config):
    """Returns the checked `optimizer` fields of a config, without unset placeholders."""
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
    reject_unknown("optimizer.", fields, ["name", "rule", EXCLUDED, *known], owner)
    if EXCLUDED in fields:
        fields[EXCLUDED] = as_list(fields[EXCLUDED])
        if not all(isinstance(part, str) and part for part in fields[EXCLUDED]):
            raise ValueError(
                f"`optimizer.{EXCLUDED}` must be parts of the names of variables, such as "
                f"('bias', 'gamma', 'beta'). Received: {EXCLUDED}={fields[EXCLUDED]!r}"
            )
    try:
        optimizer, rule = build_optimizer({**config, "optimizer": fields})
    # Keras' own message, if there is one, does not name the field of the config.
    except (ArithmeticError, AttributeError, TypeError, ValueError, re.error) as error:
        raise ValueError(
            f"`optimizer` must hold valid arguments of {fields['name']}. "
            f"Received: optimizer={fields!r}. Keras says: {one_line(error)}"
        ) from error
    scale_optimizer(optimizer, 1.0, rule)  # raises if the rule is not for this optimizer
    return fields


def build_optimizer(config):
    """Returns the optimizer of a config and the name of its scaling rule."""
    options = dict(config["optimizer"])
    rule = options.pop("rule", None) or AUTO
    cls, excluded = get_svag_class(options.pop("name")), options.pop(EXCLUDED, None)
    optimizer = cls(config["learning_rate"], weight_decay=config["weight_decay"], **options)
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=excluded)
    return optimizer, rule
