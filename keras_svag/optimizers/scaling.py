"""Applies the rules of `keras_svag.theory.scaling_rules` to Keras optimizers."""

import math
import re

import keras

from keras_svag._checks import finite_float
from keras_svag.optimizers import registry
from keras_svag.schedules import LearningRateSchedule, scale_schedule
from keras_svag.theory.scaling_rules import (
    AUTO,
    largest_kappa,
    scale_average_rate,
    scale_decay_rate,
    scale_factor,
)

CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
# The name is the only part of every config that Keras leaves to the user: a saved optimizer tells
# by it that its hyperparameters are already those of a larger batch.
_MARKED = re.compile(r"(?P<name>.*)_batch_size_(?P<size>\d+)")


def marked_batch_size(optimizer):
    """Returns the batch size to which the hyperparameters belong, `None` if nothing is said."""
    match = _MARKED.fullmatch(optimizer.name)
    return int(match["size"]) if match else None


def mark_batch_size(optimizer, size):
    """Notes in the name of an optimizer to which batch size its hyperparameters belong."""
    match = _MARKED.fullmatch(optimizer.name)
    optimizer.name = f"{match['name'] if match else optimizer.name}_batch_size_{size}"


def find_rule(optimizer, rule=AUTO):
    """Returns a `ScalingRule` of an optimizer, by name or (`"auto"`) the one that keeps its SDE."""
    registry.check_instance(optimizer)
    rules = _rules_of(optimizer)
    if not isinstance(rule, str) or rule not in (AUTO, *(r.name for r in rules)):
        names = ", ".join(repr(r.name) for r in rules)
        raise ValueError(
            f"`rule` for {_describe(optimizer)} must be 'auto' or one of {names}. "
            f"Received: rule={rule!r}"
        )
    return rules[0] if rule == AUTO else next(r for r in rules if r.name == rule)


def _rules_of(optimizer):
    """Returns the scaling rules of an optimizer, the one that preserves its SDE first."""
    rule = registry.scaling_rule_of(type(optimizer))
    if isinstance(rule, str):
        raise ValueError(
            f"`optimizer` must not be {type(optimizer).__name__}, which has no scaling rule: "
            f"{rule} Received: optimizer={optimizer!r}"
        )
    if rule is None:
        raise ValueError(
            f"`optimizer` must be an instance of {registry.known_optimizers()}, "
            f"{registry.scalable_optimizers()}, or of a subclass: "
            f"no scaling rule is known for others. Received: optimizer={optimizer!r}"
        )
    return rule(optimizer) if callable(rule) else (rule,)


def _describe(optimizer):
    momentum = getattr(optimizer, "momentum", 0.0)
    return type(optimizer).__name__ + (" with momentum" if momentum else "")


def max_kappa(optimizer, rule=AUTO):
    """Returns the largest factor on the batch size that the rule allows (exclusive)."""
    powers = find_rule(optimizer, rule).decay_powers
    names = scaled_decay_rates(optimizer, rule)
    limits = (largest_kappa([getattr(optimizer, n)]) ** (1 / powers[n]) for n in names)
    return min(limits, default=math.inf)


def scaled_decay_rates(optimizer, rule=AUTO):
    """Returns the names of the hyperparameters b of which the rule scales `1 - b`."""
    rates = find_rule(optimizer, rule).decay_powers
    # b = 0 (no averaging) stays 0: it is a case of its own, not the limit b -> 0.
    return tuple(name for name in rates if getattr(optimizer, name) != 0)


def check_kappa(optimizer, kappa, rule=AUTO):
    """Returns `kappa` as a float, or raises if the rule cannot be applied with it."""
    kappa = finite_float("kappa", kappa, "a finite number > 0", 0.0, exclusive=True)
    limit = max_kappa(optimizer, rule)
    if kappa > 1 and kappa >= limit:
        named = ", ".join(
            f"{name}={getattr(optimizer, name)}" for name in scaled_decay_rates(optimizer, rule)
        )
        raise ValueError(
            f"`kappa` must be below {limit:.6g} for {named}: 1 - b grows with kappa, and b must "
            f"stay above 0. Received: kappa={kappa}. Use a smaller kappa."
        )
    return kappa


def scale_optimizer(
    optimizer: keras.optimizers.Optimizer,
    kappa: float,
    rule: str = AUTO,
    keep_epochs: bool = True,
) -> keras.optimizers.Optimizer:
    """Returns the optimizer for a batch size multiplied by `kappa`.

    The scaled run follows the same SDE per example seen. `docs/theory.md` derives the rules: linear
    and heavy ball for SGD, and the square-root rule of
    [Malladi et al., 2022](https://arxiv.org/abs/2205.10287) for Adam and RMSprop.
    `docs/theory_optimizers.md` derives those of the other optimizers of Keras. Besides,

    - a learning rate schedule is scaled in value by the rule, and in time by 1/kappa: an epoch of
      larger batches has kappa times fewer steps (`keras_svag.ScaledSchedule`);
    - an average of the weights (`use_ema`) scales by `ema_momentum**kappa`
      ([Busbridge et al., 2023](https://arxiv.org/abs/2307.13813)), and its overwrite frequency by
      1/kappa;
    - `clipnorm`, `global_clipnorm` and `clipvalue` are divided by `sqrt(kappa)`, as the noise of
      the gradient is: they clip as often as before while the noise dominates. Where the signal
      dominates they clip more often; set them by hand there.

    Args:
        optimizer: Any `keras.optimizers.Optimizer` but Adamax and Adadelta, or one whose class has
            a `scaling_rule` or an SVAG version of yours, or a `LossScaleOptimizer` around one of
            these. It is not modified.
        kappa: Float > 0, the factor on the batch size.
        rule: String, the name of a rule of this optimizer. `"linear"` on SGD with momentum, Adam
            and AdamW is the heuristic of Goyal et al. (arXiv 1706.02677), which scales the learning
            rate alone and does not keep the SDE. `"auto"` selects `"linear"` for SGD,
            `"heavy_ball"` for SGD with momentum, `"square_root"` for adaptive optimizers,
            `"normalized"` for Lion, Lamb and Muon, `"accumulated"` for Adagrad and Ftrl, and the
            first rule that others declare. Defaults to `"auto"`.
        keep_epochs: Boolean, whether the larger batches see as many epochs, hence a schedule of
            kappa times fewer steps. With `False` it keeps its steps: for as many steps of more
            epochs, or where the batch grows by `gradient_accumulation_steps`, since Keras counts
            accumulated batches as steps of the schedule. Defaults to `True`.

    Returns:
        A new optimizer of the same class, without state.

    Raises:
        ValueError: If `optimizer` is not an instance, has no rule (the message says why) or not
            this one; if `kappa` is so large that a decay rate would not stay above 0 (the message
            states the limit); or if the learning rate is a function other than a
            `LearningRateSchedule`.

    Example:

    >>> scaled = scale_optimizer(keras.optimizers.Adam(0.001, beta_1=0.9), kappa=4)
    >>> round(float(scaled.learning_rate), 6), round(scaled.beta_1, 6)
    (0.002, 0.6)
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        inner = scale_optimizer(optimizer.inner_optimizer, kappa, rule, keep_epochs)
        return type(optimizer)(inner, optimizer.initial_scale, optimizer.dynamic_growth_steps)
    scaled = scaled_hyperparameters(optimizer, kappa, rule, keep_epochs)
    if marked_batch_size(optimizer) is not None:  # they are those of another one now
        scaled["name"] = _MARKED.fullmatch(optimizer.name)["name"]
    return registry.rebuild(optimizer, **scaled)


def scaled_hyperparameters(optimizer, kappa, rule=AUTO, keep_epochs=True):
    """Returns the hyperparameters that change with the batch size, scaled, as a dict."""
    kappa = check_kappa(optimizer, kappa, rule)
    config = registry.live_config(optimizer)
    time_scale = 1.0 / kappa if keep_epochs else 1.0
    scaled = {
        name: _scale_value(config[name], scale_factor(kappa, power), time_scale)
        for name, power in find_rule(optimizer, rule).powers.items()
        if config.get(name) is not None
    }
    powers = find_rule(optimizer, rule).decay_powers
    for name in scaled_decay_rates(optimizer, rule):
        scaled[name] = scale_decay_rate(config[name], scale_factor(kappa, powers[name]))
    if optimizer.use_ema:
        scaled["ema_momentum"] = scale_average_rate(config["ema_momentum"], kappa)
    if config.get("ema_overwrite_frequency"):
        scaled["ema_overwrite_frequency"] = max(1, round(config["ema_overwrite_frequency"] / kappa))
    # The norm of a gradient that is mostly noise. An entry scales as the norm does.
    for name in CLIPPING:
        if config.get(name) is not None:
            scaled[name] = config[name] * scale_factor(kappa, -0.5)
    return scaled


def _scale_value(value, factor, time_scale):
    if isinstance(value, LearningRateSchedule):
        return scale_schedule(value, factor, time_scale)
    if callable(value):
        raise ValueError(
            "`optimizer.learning_rate` must be a number or a LearningRateSchedule, because a "
            f"function cannot be scaled. Received: learning_rate={value!r}. Pass its value, or "
            "subclass keras.optimizers.schedules.LearningRateSchedule."
        )
    return value * factor


def check_supported(optimizer, ell):
    """Raises a `ValueError` if an option of an SVAG optimizer cannot be used with `ell`."""
    for name in CLIPPING:
        value = getattr(optimizer, name)
        if value is not None and ell > 1:
            raise ValueError(
                f"`{name}` cannot be used with `ell > 1`: the amplified gradient would be clipped "
                f"more often than that of SGD, which biases it. Received: {name}={value}, "
                f"ell={ell}. Set ell=1 or remove `{name}`."
            )
    if optimizer.ema_overwrite_frequency and ell != 1:
        raise ValueError(
            "`ema_overwrite_frequency` must be None unless `ell` is 1: it counts steps, and "
            "amplification takes `ell` times as many. Received: "
            f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}, ell={ell}. "
            "Call `finalize_variable_values` after training instead."
        )
    limit = max_kappa(optimizer)
    if ell < 1 and 1 / ell >= limit:
        raise ValueError(
            f"`ell` must be above {1 / limit:.6g} for "
            f"{', '.join(scaled_decay_rates(optimizer))}: 1 - b is divided by ell, and b "
            f"must stay above 0. Received: ell={ell}. Use a larger ell."
        )
