"""The mathematics: SVAG's coefficients, conditions, intervals, verdicts and exact solutions.

Plain functions of numbers and records, in NumPy and SciPy. R is the squared weight norm, N the
gradient noise, G the gradient signal, C the closeness. Derivations are in `docs/theory.md`.
"""

from keras_svag.theory.coefficients import svag_coefficients, svag_epochs, svag_steps
from keras_svag.theory.conditions import (
    PAPER,
    TIGHT,
    Condition,
    lsr_max_kappa,
    sde_condition,
    sde_threshold,
)
from keras_svag.theory.equilibrium.balance import (
    equilibrium_weight_norm,
    heavy_ball_weight_norm,
    weight_norm_imbalance,
    with_weight_decay,
    yaida_ratio,
)
from keras_svag.theory.equilibrium.relaxation import relaxation_steps
from keras_svag.theory.equilibrium.stationarity import EquilibriumTest, equilibrium_test
from keras_svag.theory.equilibrium.window import Window, find_window
from keras_svag.theory.exact.linear_problem import LinearProblem
from keras_svag.theory.exact.moments import Moments
from keras_svag.theory.exact.quadratic import Quadratic
from keras_svag.theory.gaussian_noise import gaussian_loss_weights, standard_normals
from keras_svag.theory.outcomes import DIFFERENT, EQUIVALENT, INCONCLUSIVE, INVALID, VALID
from keras_svag.theory.quantities import QUANTITIES
from keras_svag.theory.sampling_corrections import (
    correct_noise,
    correct_signal,
    noise_and_signal_for_scaling,
)
from keras_svag.theory.sampling_modes import MODES_WITHOUT_SDE, SAMPLING_MODES
from keras_svag.theory.scaling_rules import (
    ADAM_RULE,
    HEAVY_BALL_RULE,
    LINEAR_RULE,
    RMSPROP_MOMENTUM_RULE,
    RMSPROP_RULE,
    ScalingRule,
)
from keras_svag.theory.statistics.drift import relative_drift
from keras_svag.theory.statistics.intervals import (
    CONFIDENCE,
    Interval,
    difference_interval,
    mean_interval,
    ratio_interval,
    ratio_of_means,
)
from keras_svag.theory.statistics.order import ErrorFit, fit_errors
from keras_svag.theory.statistics.running_means import RunningMeans
from keras_svag.theory.statistics.series import SeriesMean, series_mean
from keras_svag.theory.verdicts.branches import critical_factor, judge_branch
from keras_svag.theory.verdicts.criteria import Criterion
from keras_svag.theory.verdicts.decision import DEFAULT_CLOSENESS
from keras_svag.theory.verdicts.limit import Extrapolation, extrapolate
from keras_svag.theory.verdicts.looks import spent_at
from keras_svag.theory.verdicts.noisy_gradient_descent import (
    NoiseVerdict,
    judge_noisy_gradient_descent,
)
from keras_svag.theory.verdicts.scaling import ScalingVerdict, judge_scaling
from keras_svag.theory.verdicts.sde import SDEVerdict, judge_sde

__all__ = [
    "ADAM_RULE",
    "CONFIDENCE",
    "DEFAULT_CLOSENESS",
    "DIFFERENT",
    "EQUIVALENT",
    "HEAVY_BALL_RULE",
    "INCONCLUSIVE",
    "INVALID",
    "LINEAR_RULE",
    "MODES_WITHOUT_SDE",
    "PAPER",
    "QUANTITIES",
    "RMSPROP_MOMENTUM_RULE",
    "RMSPROP_RULE",
    "SAMPLING_MODES",
    "TIGHT",
    "VALID",
    "Condition",
    "Criterion",
    "EquilibriumTest",
    "ErrorFit",
    "Extrapolation",
    "Interval",
    "LinearProblem",
    "Moments",
    "NoiseVerdict",
    "Quadratic",
    "RunningMeans",
    "SDEVerdict",
    "ScalingRule",
    "ScalingVerdict",
    "SeriesMean",
    "Window",
    "correct_noise",
    "correct_signal",
    "critical_factor",
    "difference_interval",
    "equilibrium_test",
    "equilibrium_weight_norm",
    "extrapolate",
    "find_window",
    "fit_errors",
    "gaussian_loss_weights",
    "heavy_ball_weight_norm",
    "judge_branch",
    "judge_noisy_gradient_descent",
    "judge_scaling",
    "judge_sde",
    "lsr_max_kappa",
    "mean_interval",
    "noise_and_signal_for_scaling",
    "ratio_interval",
    "ratio_of_means",
    "relative_drift",
    "relaxation_steps",
    "sde_condition",
    "sde_threshold",
    "series_mean",
    "spent_at",
    "standard_normals",
    "svag_coefficients",
    "svag_epochs",
    "svag_steps",
    "weight_norm_imbalance",
    "with_weight_decay",
    "yaida_ratio",
]
