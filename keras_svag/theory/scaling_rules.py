"""Scaling rules of hyperparameters, derived in `docs/theory.md`.

Amplification by `ell` is a scaling rule at kappa = 1/ell: both keep the SDE of the optimizer.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

LINEAR, HEAVY_BALL, SQUARE_ROOT, AUTO = "linear", "heavy_ball", "square_root", "auto"
NORMALIZED, ACCUMULATED = "normalized", "accumulated"


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """Rule that scales hyperparameters with the batch size.

    Attributes:
        name: `"linear"`, `"heavy_ball"`, `"square_root"`, `"normalized"`, `"accumulated"`, or a
            name of your own.
        powers: Dict from hyperparameter to the power of kappa that multiplies it, 0 for no change.
        decay_rates: Names of hyperparameters b whose complement `1 - b` is multiplied by kappa, or
            a dict from these names to the power of kappa.

    Raises:
        ValueError: If `powers` lacks `learning_rate` or `weight_decay`.
    """

    name: str
    powers: Mapping[str, float]
    decay_rates: tuple[str, ...] | Mapping[str, float] = ()

    def __post_init__(self) -> None:
        missing = {"learning_rate", "weight_decay"} - set(self.powers)
        if missing:
            raise ValueError(
                f"`powers` must have {' and '.join(sorted(missing))}. Received: "
                f"powers={self.powers!r}. Use the power 0 for what does not change."
            )

    @property
    def decay_powers(self) -> dict[str, float]:
        """Power of kappa that multiplies `1 - b`, by the name of the hyperparameter b."""
        rates = self.decay_rates
        return dict(rates) if isinstance(rates, Mapping) else dict.fromkeys(rates, 1.0)


# For SGD with momentum this is the rule of Goyal et al. (arXiv 1706.02677), which leaves the
# momentum as it is. It does not keep the SDE: a heuristic, as it is for Adam.
LINEAR_RULE = ScalingRule(LINEAR, {"learning_rate": 1.0, "weight_decay": 0.0})
# Keeps dV = -(1-b) V dt - eta grad L dt + eta Sigma^(1/2) dW, dX = V dt.
HEAVY_BALL_RULE = ScalingRule(
    HEAVY_BALL, {"learning_rate": 2.0, "weight_decay": -1.0}, ("momentum",)
)
# The square-root rule of Malladi, Lyu, Panigrahi, Arora 2022 (arXiv 2205.10287).
ADAM_RULE = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -0.5},
    ("beta_1", "beta_2"),
)
# The same, but Keras' RMSprop has epsilon inside the root.
RMSPROP_RULE = ScalingRule(
    SQUARE_ROOT, {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -1.0}, ("rho",)
)
RMSPROP_MOMENTUM_RULE = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 1.5, "weight_decay": -0.5, "epsilon": -1.0},
    ("rho", "momentum"),
)
# Its fixed constants, 0.96^t and 1/sqrt(t), count steps: see docs/theory_optimizers.md.
SCHEDULE_FREE_RULE = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -0.5, "warmup_steps": -1.0},
    ("beta_2",),
)
ADAFACTOR_RULE = ScalingRule(
    SQUARE_ROOT, {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon_1": -1.0}
)
# Steps of a length that does not depend on the scale of the gradient: dx = -eta f(m) dt.
LION_RULE = ScalingRule(
    # The current gradient adds to its average as noise of variance (1 - beta_1)^2 Sigma / kappa.
    NORMALIZED,
    {"learning_rate": 1.0, "weight_decay": 0.0},
    {"beta_1": 0.5, "beta_2": 1.0},
)
LAMB_RULE = ScalingRule(
    NORMALIZED,
    {"learning_rate": 1.0, "weight_decay": 0.0, "epsilon": -0.5},
    ("beta_1", "beta_2"),
)
# The other weights of Keras' Muon follow Adam, at `learning_rate * adam_lr_ratio`.
MUON_RULE = ScalingRule(
    NORMALIZED,
    {
        "learning_rate": 1.0,
        "weight_decay": 0.0,
        "adam_lr_ratio": -0.5,
        "adam_weight_decay": 0.0,
        "epsilon": -0.5,
    },
    ("momentum", "adam_beta_1", "adam_beta_2"),
)
# Steps divided by the root of a sum of squared gradients, not of their average.
ADAGRAD_RULE = ScalingRule(
    ACCUMULATED,
    {
        "learning_rate": 0.0,
        "weight_decay": 1.0,
        "initial_accumulator_value": -2.0,
        "epsilon": -2.0,
    },
)


def ftrl_rule(power: float) -> ScalingRule:
    """Returns the rule of Keras' Ftrl, which divides by the sum of squared gradients^power."""
    return ScalingRule(
        ACCUMULATED,
        {
            "learning_rate": 1 - 2 * power,
            # Keras overwrites the decayed weights: only what the accumulator gains is decayed.
            "weight_decay": 2 * power - 1,
            "initial_accumulator_value": -2.0,
            "l1_regularization_strength": -1.0,
            "l2_regularization_strength": -1.0,
            "l2_shrinkage_regularization_strength": 0.0,
            "beta": -2 * power,
        },
    )


def scale_factor(kappa: float, power: float) -> float:
    """Returns `kappa**power`; raises a `ValueError` unless it is positive and finite."""
    try:
        factor = kappa**power
    except OverflowError:
        factor = math.inf
    if not 0 < factor < math.inf:
        raise ValueError(
            f"`kappa` must give a positive finite factor kappa^{power:g}. Received: kappa={kappa}"
        )
    return factor


def scale_decay_rate(rate: float, kappa: float) -> float:
    """Decay rate b at kappa times the batch size, `1 - kappa (1 - b)`."""
    return 1.0 - kappa * (1.0 - rate)


def scale_average_rate(rate: float, kappa: float) -> float:
    """Rate m of an average of weights at kappa times the batch size, `m^kappa`."""
    return rate**kappa


def largest_kappa(rates: Iterable[float]) -> float:
    """Smallest kappa at which one of the decay rates becomes 0; `inf` if there is none."""
    complements = [1.0 - rate for rate in rates]
    return min((1.0 / c for c in complements if c > 0), default=math.inf)
