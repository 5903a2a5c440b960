"""How hyperparameters change with the batch size, and under amplification.

Amplification by `ell` is a scaling rule at kappa = 1/ell: both keep the SDE of the optimizer. One
table serves SVAG and batch scaling; `docs/theory.md` derives every row.

- linear: SGD without momentum, or with it in the variant of Goyal et al. (arXiv 1706.02677), which
  leaves the momentum untouched (not an SDE-preserving rule then; a heuristic).
- heavy ball: SGD with momentum, in the limit dV = -(1-b) V dt - eta grad L dt + eta Sigma^(1/2) dW,
  dx = V dt.
- square root: Adam, AdamW and RMSprop (Malladi, Lyu, Panigrahi, Arora 2022, arXiv 2205.10287).
"""

import dataclasses
import math

import keras

from keras_svag._checks import finite_float, one_of

LINEAR, HEAVY_BALL, SQUARE_ROOT, AUTO = "linear", "heavy_ball", "square_root", "auto"


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """One row of the table.

    Attributes:
        name: `"linear"`, `"heavy_ball"` or `"square_root"`.
        powers: dict from hyperparameter to the power of kappa that multiplies it.
        decay_rates: hyperparameters b of which `1 - b` is multiplied by kappa.
    """

    name: str
    powers: dict
    decay_rates: tuple = ()


_LINEAR = ScalingRule(LINEAR, {"learning_rate": 1.0, "weight_decay": 0.0})
_HEAVY_BALL = ScalingRule(HEAVY_BALL, {"learning_rate": 2.0, "weight_decay": -1.0}, ("momentum",))
_ADAM = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -0.5},
    ("beta_1", "beta_2"),
)
# Keras' RMSprop has epsilon inside the root.
_RMSPROP = ScalingRule(
    SQUARE_ROOT, {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -1.0}, ("rho",)
)
_RMSPROP_MOMENTUM = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 1.5, "weight_decay": -0.5, "epsilon": -1.0},
    ("rho", "momentum"),
)


def find_rule(optimizer, rule=AUTO):
    """The row of the table for an optimizer.

    Args:
        optimizer: a `keras.optimizers.Optimizer` (SGD, RMSprop, Adam, AdamW or a subclass).
        rule: `"linear"`, `"heavy_ball"`, `"square_root"`, or `"auto"` for the one that keeps the
            SDE of this optimizer. Defaults to `"auto"`.

    Returns:
        A `ScalingRule`.

    Raises:
        ValueError: if there is no rule for the optimizer, or `rule` is not one for it.

    Example:

    >>> find_rule(keras.optimizers.SGD(momentum=0.9)).name
    'heavy_ball'
    """
    one_of("rule", rule, (AUTO, LINEAR, HEAVY_BALL, SQUARE_ROOT))
    rows = _rows(optimizer)
    if rule == AUTO:
        return rows[0]
    for row in rows:
        if row.name == rule:
            return row
    names = ", ".join(repr(row.name) for row in rows)
    raise ValueError(
        f"`rule` for {_describe(optimizer)} must be 'auto' or one of {names}. "
        f"Received: rule={rule!r}"
    )


def _rows(optimizer):
    if isinstance(optimizer, keras.optimizers.SGD):
        # Heavy ball does not tend to the linear rule as b -> 0: they keep different things.
        return (_HEAVY_BALL, _LINEAR) if optimizer.momentum else (_LINEAR,)
    if isinstance(optimizer, keras.optimizers.Adam):
        return (_ADAM,)
    if isinstance(optimizer, keras.optimizers.RMSprop):
        return (_RMSPROP_MOMENTUM if optimizer.momentum else _RMSPROP,)
    raise ValueError(
        "`optimizer` must be SGD, RMSprop, Adam, AdamW or a subclass of one of them; no scaling "
        f"rule is known for others. Received: optimizer={optimizer!r}"
    )


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
    complements = [1.0 - getattr(optimizer, name) for name in scaled_decay_rates(optimizer, rule)]
    return min((1.0 / c for c in complements if c > 0), default=float("inf"))


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
    averages = ("ema_momentum",) if optimizer.use_ema else ()
    rates = (*find_rule(optimizer, rule).decay_rates, *averages)
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
        optimizer: a Keras SGD, RMSprop, Adam or AdamW, or an SVAG version of one. It is not
            changed.
        kappa: factor on the batch size, a float > 0; smaller than 1 for a smaller batch.
        rule: `"linear"` (kappa on the learning rate; on SGD with momentum that is the variant of
            Goyal et al., a heuristic), `"heavy_ball"`, `"square_root"`, or `"auto"`: linear for
            SGD, heavy ball for SGD with momentum, square root for the adaptive ones. Defaults to
            `"auto"`.

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
    config = optimizer.get_config()
    scaled = {
        name: _scale_value(config[name], _power(kappa, power))
        for name, power in find_rule(optimizer, rule).powers.items()
        if config.get(name) is not None
    }
    for name in scaled_decay_rates(optimizer, rule):
        scaled[name] = 1.0 - kappa * (1.0 - config[name])
    if config.get("ema_overwrite_frequency"):
        scaled["ema_overwrite_frequency"] = max(1, round(config["ema_overwrite_frequency"] / kappa))
    return scaled


def _power(kappa, power):
    try:
        factor = kappa**power
    except OverflowError:
        factor = math.inf
    if not 0 < factor < math.inf:
        raise ValueError(
            f"`kappa` must be so that the rule's factor, kappa^{power:g}, is a positive finite "
            f"number. Received: kappa={kappa}"
        )
    return factor


def _scale_value(value, factor):
    if isinstance(value, dict):
        raise ValueError(
            "`optimizer.learning_rate` must be a number to be scaled; a schedule counts steps, "
            "whose meaning changes with the batch size. Received a schedule: "
            f"{value.get('class_name')}. Scale its values by {factor:.6g} and its steps yourself."
        )
    return value * factor
