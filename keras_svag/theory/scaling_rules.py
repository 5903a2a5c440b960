"""How hyperparameters change with the batch size, and under amplification: rules on numbers.

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

LINEAR, HEAVY_BALL, SQUARE_ROOT, AUTO = "linear", "heavy_ball", "square_root", "auto"


@dataclasses.dataclass(frozen=True)
class ScalingRule:
    """One row of the table.

    Attributes:
        name: `"linear"`, `"heavy_ball"`, `"square_root"`, or that of a rule of your own.
        powers: dict from hyperparameter to the power of kappa that multiplies it; those of
            `learning_rate` and `weight_decay` among them.
        decay_rates: hyperparameters b of which `1 - b` is multiplied by kappa.

    Raises:
        ValueError: if `powers` lacks one of the two.
    """

    name: str
    powers: dict
    decay_rates: tuple = ()

    def __post_init__(self):
        missing = {"learning_rate", "weight_decay"} - set(self.powers)
        if missing:
            raise ValueError(
                f"`powers` must have {' and '.join(sorted(missing))}. Received: "
                f"powers={self.powers!r}. Use the power 0 for what does not change."
            )


LINEAR_RULE = ScalingRule(LINEAR, {"learning_rate": 1.0, "weight_decay": 0.0})
HEAVY_BALL_RULE = ScalingRule(
    HEAVY_BALL, {"learning_rate": 2.0, "weight_decay": -1.0}, ("momentum",)
)
ADAM_RULE = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -0.5},
    ("beta_1", "beta_2"),
)
# Keras' RMSprop has epsilon inside the root.
RMSPROP_RULE = ScalingRule(
    SQUARE_ROOT, {"learning_rate": 0.5, "weight_decay": 0.5, "epsilon": -1.0}, ("rho",)
)
RMSPROP_MOMENTUM_RULE = ScalingRule(
    SQUARE_ROOT,
    {"learning_rate": 1.5, "weight_decay": -0.5, "epsilon": -1.0},
    ("rho", "momentum"),
)


def scale_factor(kappa, power):
    """The factor `kappa**power` of a hyperparameter.

    Args:
        kappa: factor on the batch size, a float > 0.
        power: a float, as in `ScalingRule.powers`.

    Returns:
        A float.

    Raises:
        ValueError: if the factor is not a positive finite number.

    Example:

    >>> scale_factor(4.0, -0.5)
    0.5
    """
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


def scale_decay_rate(rate, kappa):
    """The decay rate b at kappa times the batch size, `1 - kappa (1 - b)`.

    Args:
        rate: b, a float.
        kappa: factor on the batch size, a float > 0.

    Returns:
        A float.

    Example:

    >>> scale_decay_rate(0.75, 2.0)
    0.5
    """
    return 1.0 - kappa * (1.0 - rate)


def largest_kappa(rates):
    """The kappa at which the first of some decay rates would become 0.

    Args:
        rates: list of floats.

    Returns:
        A float; infinite if none of them limits kappa.

    Example:

    >>> largest_kappa([0.75, 0.5])
    2.0
    """
    complements = [1.0 - rate for rate in rates]
    return min((1.0 / c for c in complements if c > 0), default=math.inf)
