"""Registry of SVAG optimizers and of scaling rules; defining an SVAG class registers both."""

from collections.abc import Callable

import keras

from keras_svag import _keras
from keras_svag._checks import one_of
from keras_svag.theory.scaling_rules import ScalingRule

_BY_NAME, _BY_KERAS_CLASS = {}, {}
_RULES = {}  # of optimizers without an SVAG version; a string says why there is none


def register(svag_class, keras_class):
    """Registers a class, in place of an earlier one of the same name."""
    known = _BY_KERAS_CLASS.get(keras_class)
    if known is None or known.__name__ == svag_class.__name__:
        _BY_KERAS_CLASS[keras_class] = svag_class
    _BY_NAME[svag_class.__name__] = svag_class


def register_scaling_rule(optimizer_class: type, rule: ScalingRule | Callable | str):
    """Declares the scaling rule of an optimizer class that has no SVAG version.

    `scale_optimizer` then accepts the class and its subclasses. For a class of your own, the class
    attribute `scaling_rule` does the same.

    Args:
        optimizer_class: A subclass of `keras.optimizers.Optimizer`.
        rule: A `keras_svag.theory.scaling_rules.ScalingRule`, a function of an optimizer that
            returns a tuple of them, first the one that preserves the SDE, or a string: the reason
            why there is none, for the error message.

    Example:

    >>> from keras_svag.theory.scaling_rules import LINEAR_RULE
    >>> class MyOptimizer(keras.optimizers.Optimizer):
    ...     pass
    >>> register_scaling_rule(MyOptimizer, LINEAR_RULE)
    """
    _RULES[optimizer_class] = rule


def scaling_rule_of(optimizer_class):
    """Returns what is declared as rule of a class or its nearest base, or `None`."""
    if hasattr(optimizer_class, "scaling_rule"):
        return optimizer_class.scaling_rule
    for cls in optimizer_class.__mro__:
        if cls in _BY_KERAS_CLASS:
            return _BY_KERAS_CLASS[cls].scaling_rule
        if cls in _RULES:
            return _RULES[cls]
    return None


def svag_classes() -> dict[str, type]:
    """Returns all SVAG optimizers that are defined, including user-defined ones.

    Returns:
        A dict from the name of a class to the class.

    Example:

    >>> svag_classes()["SVAGAdam"].__name__
    'SVAGAdam'
    """
    return dict(_BY_NAME)


def get_svag_class(name: str) -> type:
    """Returns the SVAG optimizer class of a given name.

    Args:
        name: String, such as `"SVAGAdam"`.

    Returns:
        A subclass of `AmplificationMixin`.

    Raises:
        ValueError: If no SVAG optimizer has this name.

    Example:

    >>> get_svag_class("SVAGAdam").__name__
    'SVAGAdam'
    """
    return _BY_NAME[one_of("name", name, _BY_NAME)]


def svag_class_for(keras_class: type) -> type | None:
    """Returns the SVAG version of a Keras optimizer class.

    Args:
        keras_class: A Keras optimizer class, such as `keras.optimizers.Adam`. Its subclasses count
            as other classes.

    Returns:
        A subclass of `AmplificationMixin`, or `None` if the class has no SVAG version.

    Example:

    >>> svag_class_for(keras.optimizers.Adam).__name__
    'SVAGAdam'
    """
    return _BY_KERAS_CLASS.get(keras_class)


def known_optimizers():
    """Returns the names of all optimizers that can be amplified, for error messages."""
    return ", ".join([*(cls.__name__ for cls in _BY_KERAS_CLASS), *_BY_NAME])


def scalable_optimizers():
    """Returns the names of the optimizers that have a scaling rule only, for error messages."""
    return ", ".join(cls.__name__ for cls, rule in _RULES.items() if not isinstance(rule, str))


def live_config(optimizer):
    """Returns the config of an optimizer, in which a schedule or callable is not serialized."""
    schedule = _keras.get_learning_rate(optimizer)
    if not callable(schedule):
        return optimizer.get_config()
    # Of a copy: `get_config` would serialize the schedule, which may not be registered.
    return {**_keras.without_learning_rate(optimizer).get_config(), "learning_rate": schedule}


def rebuild(optimizer, cls=None, **changes):
    """Returns a new optimizer of the config of another one, with some arguments changed."""
    copy = (cls or type(optimizer)).from_config({**live_config(optimizer), **changes})
    _keras.copy_decay_exclusions(copy, optimizer)  # no config has them
    return copy


def check_instance(optimizer):
    """Raises a `ValueError` for the name or the class of an optimizer."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "`optimizer` must be a Keras optimizer instance. Received: "
            f"optimizer={optimizer!r}. Pass an instance, such as keras.optimizers.AdamW(1e-3)."
        )


def svag_version(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the SVAG version of a Keras optimizer, with the same hyperparameters and `ell=1`.

    Args:
        optimizer: A `keras.optimizers.Optimizer` instance: SGD, Adam, AdamW, RMSprop, another class
            for which an SVAG version is defined (see `AmplificationMixin`), or an SVAG optimizer.
            Subclasses are not accepted, since their update may differ. The optimizer is not
            modified; a learning rate schedule is shared.

    Returns:
        A new optimizer without state.

    Raises:
        ValueError: If `optimizer` is a name or a class, or has no SVAG version.

    Example:

    >>> svag_version(keras.optimizers.Adam(0.25, beta_1=0.5)).get_config()["beta_1"]
    0.5
    """
    check_instance(optimizer)
    cls = type(optimizer)
    # A class may have been redefined since the optimizer was created, in a notebook.
    known = _BY_NAME.get(cls.__name__) if hasattr(cls, "scaling_rule") else svag_class_for(cls)
    if known is None:
        raise ValueError(
            f"`optimizer` must be one of {known_optimizers()}. "
            f"Received: optimizer={optimizer!r} of {cls}. To amplify another optimizer, define its "
            "SVAG version with keras_svag.optimizers.AmplificationMixin."
        )
    return rebuild(optimizer, known, ell=1.0)
