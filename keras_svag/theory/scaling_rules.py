"""Scaling rules of hyperparameters, derived in `docs/theory.md`.

Amplification by `ell` is a scaling rule at kappa = 1/ell: both keep the SDE of the optimizer.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping

LINEAR, HEAVY_BALL, SQUARE_ROOT, AUTO = "linear", "heavy_ball", "square_root", "auto"


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """Rule that scales hyperparameters with the batch size.

    Attributes:
        name: `"linear"`, `"heavy_ball"`, `"square_root"`, or a name of your own.
        powers: Dict from hyperparameter to the power of kappa that multiplies it, 0 for no change.
        decay_rates: Names of hyperparameters b whose complement `1 - b` is multiplied by kappa.

    Raises:
        ValueError: If `powers` lacks `learning_rate` or `weight_decay`.
    """

    name: str
    powers: Mapping[str, float]
    decay_rates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        missing = {"learning_rate", "weight_decay"} - set(self.powers)
        if missing:
            raise ValueError(
                f"`powers` must have {' and '.join(sorted(missing))}. Received: "
                f"powers={self.powers!r}. Use the power 0 for what does not change."
            )


# For SGD with momentum this is the rule of Goyal et al. (arXiv 1706.02677), which leaves the
# momentum as it is. It does not keep the SDE: a heuristic.
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
