"""Names and arguments that are on their way out; CONTRIBUTING.md has the policy."""

import functools
import re
import warnings

from keras_svag.version import __version__


def deprecated(instead, since, removed_in):
    """Decorates a function or method that is going to be removed."""

    def decorate(function):
        message = _message(f"`{function.__qualname__}`", instead, since, removed_in)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            warnings.warn(message, FutureWarning, stacklevel=2)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def renamed_argument(old, new, since, removed_in):
    """Decorates a function that still takes the keyword argument `new` by the name `old`."""

    def decorate(function):
        name = f"Argument `{old}` of `{function.__qualname__}`"
        message = _message(name, f"`{new}`", since, removed_in)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            if old in kwargs:
                if new in kwargs:
                    raise ValueError(
                        f"`{old}` must not be given beside `{new}`, its new name. Received: "
                        f"{old}={kwargs[old]!r}, {new}={kwargs[new]!r}. Remove `{old}`."
                    )
                warnings.warn(message, FutureWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper

    return decorate


def _message(name, instead, since, removed_in):
    if _numbers(__version__) >= _numbers(removed_in):
        # Whoever raises the version is told what to remove.
        raise RuntimeError(f"{name} was to be removed in keras_svag {removed_in}.")
    return (
        f"{name} is deprecated since keras_svag {since} and will be removed in {removed_in}. "
        f"Use {instead} instead."
    )


def _numbers(version):
    return [int(digits) for digits in re.findall(r"\d+", version)]
