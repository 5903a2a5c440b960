"""Which Keras optimizers have an SVAG version: a class is found by being defined."""

import keras

from keras_svag._checks import one_of

_BY_NAME, _BY_KERAS_CLASS = {}, {}


def register(svag_class, keras_class):
    """Makes a class known; one of the same name takes the place of the earlier.

    Args:
        svag_class: a class with the amplification mixin.
        keras_class: the Keras optimizer it amplifies. Where that has an SVAG version of another
            name, it keeps it: so subclasses and alternatives do not change what others get.
    """
    known = _BY_KERAS_CLASS.get(keras_class)
    if known is None or known.__name__ == svag_class.__name__:
        _BY_KERAS_CLASS[keras_class] = svag_class
    _BY_NAME[svag_class.__name__] = svag_class


def svag_classes():
    """The SVAG optimizers that are defined, those of the package and yours.

    Returns:
        A dict from the name of a class to the class.
    """
    return dict(_BY_NAME)


def get_svag_class(name):
    """The SVAG optimizer of a name.

    Args:
        name: such as `"SVAGAdam"`.

    Returns:
        A class.

    Raises:
        ValueError: if there is none.
    """
    return _BY_NAME[one_of("name", name, _BY_NAME)]


def svag_class_for(keras_class):
    """The SVAG version of a Keras optimizer class, exactly this one.

    Args:
        keras_class: such as `keras.optimizers.Adam`.

    Returns:
        A class; `None` if there is none.
    """
    return _BY_KERAS_CLASS.get(keras_class)


def known_optimizers():
    """The names of the optimizers that can be amplified, for messages.

    Returns:
        A string.
    """
    return ", ".join([*(cls.__name__ for cls in _BY_KERAS_CLASS), *_BY_NAME])


def live_config(optimizer):
    """The config of an optimizer, in which a learning rate that is a function is that itself.

    Unlike what Keras serializes it to, this needs no registered class and no `get_config`.

    Args:
        optimizer: a Keras optimizer.

    Returns:
        A dict of arguments of the constructor.
    """
    schedule = optimizer._learning_rate
    if not callable(schedule):
        return optimizer.get_config()
    # Keras serializes what it finds; the optimizer itself is not touched.
    shadow = object.__new__(type(optimizer))
    shadow.__dict__.update(optimizer.__dict__, _learning_rate=None)
    return {**shadow.get_config(), "learning_rate": schedule}


def svag_version(optimizer):
    """The SVAG version of a Keras optimizer, with its hyperparameters and `ell = 1`.

    Args:
        optimizer: an instance of SGD, Adam, AdamW, RMSprop, another Keras optimizer for which a
            class with `AmplificationMixin` is defined, or of such a class. Not of a subclass,
            whose step may be another one. It is not changed; a schedule is shared.

    Returns:
        A new optimizer without state.

    Raises:
        ValueError: if it is another one, or a name or a class.

    Example:

    >>> svag_version(keras.optimizers.Adam(0.25, beta_1=0.5)).get_config()["beta_1"]
    0.5
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            "`optimizer` must be an optimizer itself, whose learning rate you chose. Received: "
            f"optimizer={optimizer!r}. Pass an instance, such as keras.optimizers.AdamW(1e-3)."
        )
    cls = type(optimizer)
    # An instance of a class that was defined anew since (in a notebook) becomes one of that.
    known = _BY_NAME.get(cls.__name__) if hasattr(cls, "scaling_rule") else svag_class_for(cls)
    if known is None:
        raise ValueError(
            f"`optimizer` must be one of {known_optimizers()}: only these can be amplified. "
            f"Received: optimizer={optimizer!r} of {cls}. Define a class with "
            "keras_svag.optimizers.AmplificationMixin for another."
        )
    return known.from_config({**live_config(optimizer), "ell": 1.0})
