"""Scaling rules applied to Keras optimizers: which one, how far it goes, the scaled optimizer.

The rules themselves are in `keras_svag.theory.scaling_rules`; which of them an optimizer has, its
SVAG version says (`scaling_rule`).
"""

from keras_svag._checks import finite_float
from keras_svag.optimizers import registry
from keras_svag.theory.scaling_rules import AUTO, largest_kappa, scale_decay_rate, scale_factor


def find_rule(optimizer, rule=AUTO):
    """The scaling rule of an optimizer.

    Args:
        optimizer: a `keras.optimizers.Optimizer` that has an SVAG version (SGD, RMSprop, Adam,
            AdamW, those that you defined one for), a subclass of one, or an SVAG version.
        rule: name of the rule, such as `"linear"`, `"heavy_ball"` or `"square_root"`; or `"auto"`
            for the one that keeps the SDE of this optimizer. Defaults to `"auto"`.

    Returns:
        A `keras_svag.theory.scaling_rules.ScalingRule`.

    Raises:
        ValueError: if there is no rule for the optimizer, or `rule` is not one for it.

    Example:

    >>> find_rule(keras.optimizers.SGD(momentum=0.9)).name
    'heavy_ball'
    """
    rows = _rules_of(optimizer)
    if not isinstance(rule, str) or rule not in (AUTO, *(row.name for row in rows)):
        names = ", ".join(repr(row.name) for row in rows)
        raise ValueError(
            f"`rule` for {_describe(optimizer)} must be 'auto' or one of {names}. "
            f"Received: rule={rule!r}"
        )
    return rows[0] if rule == AUTO else next(row for row in rows if row.name == rule)


def _rules_of(optimizer):
    """The rules of an optimizer, first the one that keeps its SDE."""
    cls = type(optimizer)
    versions = (cls, *map(registry.svag_class_for, cls.__mro__))
    rules = (getattr(version, "scaling_rule", None) for version in versions)
    rule = next((rule for rule in rules if rule is not None), None)
    if rule is None:
        raise ValueError(
            f"`optimizer` must be one of {registry.known_optimizers()}, or of a subclass of one of "
            f"them; no scaling rule is known for others. Received: optimizer={optimizer!r}"
        )
    return rule(optimizer) if callable(rule) else (rule,)


def _describe(optimizer):
    momentum = getattr(optimizer, "momentum", 0.0)
    return type(optimizer).__name__ + (" with momentum" if momentum else "")


def max_kappa(optimizer, rule=AUTO):
    """Largest factor on the batch size that the rule allows (exclusive).

    A decay rate b becomes `1 - kappa (1 - b)`, which must stay positive.

    Args:
        optimizer: a Keras optimizer.
        rule: as for `find_rule`. Defaults to `"auto"`.

    Returns:
        A float; infinite where the rule has no decay rate.

    Raises:
        ValueError: as `find_rule` does.

    Example:

    >>> round(max_kappa(keras.optimizers.SGD(momentum=0.9)), 6)
    10.0
    """
    return largest_kappa(getattr(optimizer, name) for name in scaled_decay_rates(optimizer, rule))


def scaled_decay_rates(optimizer, rule=AUTO):
    """Names of the hyperparameters b whose complement the rule scales.

    Args:
        optimizer: a Keras optimizer.
        rule: as for `find_rule`. Defaults to `"auto"`.

    Returns:
        A tuple of strings; `ema_momentum` among them if the optimizer averages weights.

    Raises:
        ValueError: as `find_rule` does.
    """
    rates = find_rule(optimizer, rule).decay_rates
    if optimizer.use_ema:
        rates = (*rates, "ema_momentum")
    # No averaging (beta_1 = 0) stays none: that limit is another one, as for momentum.
    return tuple(name for name in rates if getattr(optimizer, name) != 0)


def check_kappa(optimizer, kappa, rule=AUTO):
    """Returns `kappa` as a float if the rule can be applied with it.

    Args:
        optimizer: a Keras optimizer.
        kappa: factor on the batch size, > 0.
        rule: as for `find_rule`. Defaults to `"auto"`.

    Returns:
        A float.

    Raises:
        ValueError: if `kappa` is not a positive number, or so large that a decay rate would not
            stay above 0.
    """
    kappa = finite_float("kappa", kappa, "a finite number > 0", 0.0, exclusive=True)
    limit = max_kappa(optimizer, rule)
    if kappa > 1 and kappa >= limit:
        named = ", ".join(
            f"{name}={getattr(optimizer, name)}" for name in scaled_decay_rates(optimizer, rule)
        )
        raise ValueError(
            f"`kappa` must be below {limit:.6g} for {named}: the rule multiplies 1 - b by kappa, "
            f"and b must stay above 0. Received: kappa={kappa}. Use a smaller kappa."
        )
    return kappa


def scale_optimizer(optimizer, kappa, rule=AUTO):
    """The optimizer for `kappa` times the batch size, with the same dynamics per example.

    Args:
        optimizer: as for `find_rule`. It is not changed.
        kappa: factor on the batch size, a float > 0; smaller than 1 for a smaller batch.
        rule: `"linear"` (kappa on the learning rate; on SGD with momentum that is the variant of
            Goyal et al., a heuristic), `"heavy_ball"`, `"square_root"`, or `"auto"`: linear for
            SGD, heavy ball for SGD with momentum, square root for the adaptive ones, what the
            optimizer's SVAG version says for others. Defaults to `"auto"`.

    Returns:
        A new optimizer of the same class, without state.

    Raises:
        ValueError: if there is no such rule, or `kappa` is so large that a decay rate would not
            stay above 0 (the message has the largest allowed).

    Example:

    >>> scaled = scale_optimizer(keras.optimizers.Adam(0.001, beta_1=0.9), kappa=4)
    >>> round(float(scaled.learning_rate), 6), round(scaled.beta_1, 6)
    (0.002, 0.6)
    """
    scaled = scaled_hyperparameters(optimizer, kappa, rule)
    return type(optimizer).from_config({**optimizer.get_config(), **scaled})


def scaled_hyperparameters(optimizer, kappa, rule=AUTO):
    """The hyperparameters that change at `kappa` times the batch size.

    Args:
        optimizer: as for `scale_optimizer`.
        kappa: as for `scale_optimizer`.
        rule: as for `scale_optimizer`.

    Returns:
        A dict from the name of a constructor argument to its scaled value.

    Raises:
        ValueError: as `scale_optimizer` does.

    Example:

    >>> scaled_hyperparameters(keras.optimizers.SGD(0.5, weight_decay=0.25), kappa=2)
    {'learning_rate': 1.0, 'weight_decay': 0.25}
    """
    kappa = check_kappa(optimizer, kappa, rule)
    config = registry.live_config(optimizer)
    scaled = {
        name: _scale_value(config[name], scale_factor(kappa, power))
        for name, power in find_rule(optimizer, rule).powers.items()
        if config.get(name) is not None
    }
    for name in scaled_decay_rates(optimizer, rule):
        scaled[name] = scale_decay_rate(config[name], kappa)
    if config.get("ema_overwrite_frequency"):
        scaled["ema_overwrite_frequency"] = max(1, round(config["ema_overwrite_frequency"] / kappa))
    return scaled


def _scale_value(value, factor):
    if callable(value):
        raise ValueError(
            "`optimizer.learning_rate` must be a number to be scaled; a schedule counts steps, "
            "whose meaning changes with the batch size. Received a schedule: "
            f"{type(value).__name__}. Scale its values by {factor:.6g} and its steps yourself."
        )
    return value * factor
