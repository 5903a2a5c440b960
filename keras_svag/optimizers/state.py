"""Scales the state of an optimizer whose batch grows by kappa in the middle of a run.

`docs/theory_optimizers.md`, section 6, derives the powers: an average of gradients keeps its law,
one of squared gradients is divided by kappa, what moves the weights per step is multiplied by it.
"""

import warnings

from keras import ops

from keras_svag.optimizers import scaling
from keras_svag.theory.scaling_rules import AUTO, scale_decay_rate, scale_factor

# By class and attribute: the power of kappa, and the decay rate whose bias Keras corrects.
POWERS = {
    "Adagrad": {"_accumulators": (-2, None)},
    "Adam": {
        "_momentums": (0, "beta_1"),
        "_velocities": (-1, "beta_2"),
        "_velocity_hats": (-1, "beta_2"),
    },
    "Ftrl": {"_accumulators": (-2, None), "_linears": (-1, None)},
    "Lamb": {"_momentums": (0, "beta_1"), "_velocities": (-1, "beta_2")},
    "Lion": {"_momentums": (0, None)},
    # The matrices of Muon; its other weights follow Adam.
    "Muon": {"momentums": (-1, None), "adam_velocities": (-1, "adam_beta_2")},
    "Nadam": {"_momentums": (0, None), "_velocities": (-1, "beta_2")},
    "RMSprop": {
        "_velocities": (-1, None),
        "_momentums": (1, None),
        "_average_gradients": (0, None),
    },
    "SGD": {"momentums": (1, None)},
}
# Their rates and memories are functions of the number of steps since the beginning.
COUNTING_STEPS = ("Adafactor", "ScheduleFreeAdamW")


def check_can_grow(optimizer):
    """Raises a `ValueError` if it is not known how the state of an optimizer is scaled."""
    _powers_of(optimizer)


def _powers_of(optimizer):
    """Returns a dict from the names of state attributes to pairs as in `POWERS`."""
    cls = type(optimizer)
    if hasattr(cls, "state_powers"):
        missing = [name for name in cls.state_powers if not hasattr(optimizer, name)]
        if missing and optimizer.built:
            raise ValueError(
                "`state_powers` must have the names of attributes of the optimizer. Received: "
                f"state_powers={cls.state_powers!r}, but {cls.__name__} has no {missing[0]!r}. "
                "Correct the name."
            )
        return {name: (power, None) for name, power in cls.state_powers.items()}
    names = [base.__name__ for base in cls.__mro__ if base.__module__.startswith("keras.")]
    if any(name in COUNTING_STEPS for name in names):
        raise ValueError(
            f"`optimizer` must not be {cls.__name__} if the batch grows during `fit`: its memory "
            "is a function of the number of steps, which would have to start anew. Received: "
            f"optimizer={optimizer!r}. Use Adam, or start a second run with "
            "keras_svag.scale_optimizer."
        )
    known = next((POWERS[name] for name in names if name in POWERS), None)
    if known is None:
        raise ValueError(
            f"`optimizer` must be one of {', '.join(POWERS)}, of a subclass, or have the class "
            "attribute `state_powers`, a dict from the names of its lists of variables to powers "
            f"of the batch size. Received: optimizer={optimizer!r}"
        )
    return known


def state_factors(optimizer, kappa, rule=AUTO):
    """Returns pairs of a state variable and the factor to multiply it by, before kappa applies."""
    factors = []
    averages = getattr(optimizer, "_average_gradients", None)  # of centered RMSprop
    for name, (power, rate) in _powers_of(optimizer).items():
        for index, variable in enumerate(getattr(optimizer, name, None) or []):
            if variable is None:  # Keras has no state for this weight
                continue
            of_adam = name == "momentums" and _is_adam_weight(optimizer, index)
            own_power, own_rate = (0, "adam_beta_1") if of_adam else (power, rate)
            factor = scale_factor(kappa, own_power) * _bias_ratio(optimizer, own_rate, kappa, rule)
            if name == "_velocities" and averages:
                factor = _factor_of_variance(variable, averages[index], factor)
            factors.append((variable, factor))
    return factors


def _factor_of_variance(square, average, factor):
    """Returns the factor on an average of squares that multiplies the variance by `factor`."""
    # What stays is the square of the average: less than that, and Keras takes a negative root.
    square, signal = ops.convert_to_tensor(square), ops.square(average)
    scaled = signal + factor * ops.maximum(square - signal, 0.0)
    is_positive = square > 0
    return ops.where(is_positive, scaled / ops.where(is_positive, square, 1.0), 1.0)


def _is_adam_weight(optimizer, index):
    velocities = getattr(optimizer, "adam_velocities", None)
    return velocities is not None and velocities[index] is not None


def _bias_ratio(optimizer, name, kappa, rule):
    """Returns the ratio of the weights 1 - b^k by which Keras divides, after and before."""
    steps = int(ops.convert_to_numpy(ops.convert_to_tensor(optimizer.iterations)))
    if name is None or not steps or name not in scaling.scaled_decay_rates(optimizer, rule):
        return 1.0
    power = scaling.find_rule(optimizer, rule).decay_powers[name]
    # SVAG runs with a rate of its own.
    amplified = getattr(optimizer, "ell", 1.0) ** -power
    before = scale_decay_rate(getattr(optimizer, name), amplified)
    after = scale_decay_rate(before, scale_factor(kappa, power))
    return (1 - after**steps) / (1 - before**steps)


def fits(store, optimizer):
    """Returns True if the variables in a file have the shapes of those of an optimizer; warns."""
    # Keras compares their numbers only, and would load those before the first misfit.
    saved, own = len(store.keys()), optimizer.variables
    if saved == len(own) and any(store[str(i)].shape != v.shape for i, v in enumerate(own)):
        warnings.warn(
            f"The state of {type(optimizer).__name__} was not loaded: it was saved with other "
            "hyperparameters, or for other weights.",
            stacklevel=3,
        )
        return False
    return True
