"""The mathematics: SVAG's coefficients, conditions, intervals, verdicts and exact solutions.

Plain functions of numbers and records, in NumPy and SciPy. R is the squared weight norm, N the
gradient noise, G the gradient signal, C the closeness. Derivations are in `docs/theory.md`.
"""

from keras_svag.theory.coefficients import (
    MIN_ELL,
    svag_coefficients,
    svag_epochs,
    svag_steps,
    validate_ell,
)
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
    weight_norm_imbalance,
    with_weight_decay,
    yaida_ratio,
)
from keras_svag.theory.equilibrium.measurement import (
    lengths_inside,
    mean_rows,
    measure_window,
    window_means,
)
from keras_svag.theory.equilibrium.relaxation import (
    MIN_ROWS,
    RELAXATION_TIMES,
    candidate_starts,
    constant_rate_stretch,
    relaxation_steps,
)
from keras_svag.theory.equilibrium.stationarity import EquilibriumTest, equilibrium_test
from keras_svag.theory.equilibrium.window import (
    TOLERANCE,
    Window,
    examine_window,
    find_window,
    identity_ratio,
    is_steady,
    shows_no_drift,
)
from keras_svag.theory.exact.linear_problem import LinearProblem
from keras_svag.theory.exact.moments import Moments
from keras_svag.theory.exact.quadratic import Quadratic
from keras_svag.theory.gaussian_noise import gaussian_loss_weights, standard_normals
from keras_svag.theory.outcomes import (
    BAD,
    BASE,
    DIFFERENT,
    EQUIVALENT,
    FAILS,
    GOOD,
    HOLDS,
    INCONCLUSIVE,
    INVALID,
    OPEN,
    VALID,
    tone,
    worst,
)
from keras_svag.theory.quantities import NAMES, NOISE, QUANTITIES, SIGNAL, WEIGHT_NORM
from keras_svag.theory.sampling_corrections import (
    correct_noise,
    correct_signal,
    noise_and_signal_for_scaling,
)
from keras_svag.theory.sampling_modes import (
    FIXED_ORDER,
    MODES_WITHOUT_SDE,
    SAMPLING_MODES,
    SHUFFLED_EPOCHS,
    TWO_SHUFFLED_STREAMS,
    WITH_REPLACEMENT,
    WITHOUT_REPLACEMENT,
)
from keras_svag.theory.statistics.drift import relative_drift
from keras_svag.theory.statistics.equivalence import EQUIVALENCE_CONFIDENCE, Equivalence, compare
from keras_svag.theory.statistics.intervals import (
    CONFIDENCE,
    Interval,
    difference_interval,
    exponential,
    mean_interval,
    ratio_interval,
    ratio_of_means,
    standard_error,
    t_interval,
    t_quantile,
)
from keras_svag.theory.statistics.running_means import RunningMeans
from keras_svag.theory.statistics.series import AUTOCOVARIANCE, BATCH_MEANS, SeriesMean, series_mean
from keras_svag.theory.validity import (
    DEFAULT_CLOSENESS,
    Verdict,
    closeness,
    extrapolate,
    judge,
    validate_closeness,
)

__all__ = [
    "AUTOCOVARIANCE",
    "BAD",
    "BASE",
    "BATCH_MEANS",
    "CONFIDENCE",
    "DEFAULT_CLOSENESS",
    "DIFFERENT",
    "EQUIVALENCE_CONFIDENCE",
    "EQUIVALENT",
    "FAILS",
    "FIXED_ORDER",
    "GOOD",
    "HOLDS",
    "INCONCLUSIVE",
    "INVALID",
    "MIN_ELL",
    "MIN_ROWS",
    "MODES_WITHOUT_SDE",
    "NAMES",
    "NOISE",
    "OPEN",
    "PAPER",
    "QUANTITIES",
    "RELAXATION_TIMES",
    "SAMPLING_MODES",
    "SHUFFLED_EPOCHS",
    "SIGNAL",
    "TIGHT",
    "TOLERANCE",
    "TWO_SHUFFLED_STREAMS",
    "VALID",
    "WEIGHT_NORM",
    "WITHOUT_REPLACEMENT",
    "WITH_REPLACEMENT",
    "Condition",
    "EquilibriumTest",
    "Equivalence",
    "Interval",
    "LinearProblem",
    "Moments",
    "Quadratic",
    "RunningMeans",
    "SeriesMean",
    "Verdict",
    "Window",
    "candidate_starts",
    "closeness",
    "compare",
    "constant_rate_stretch",
    "correct_noise",
    "correct_signal",
    "difference_interval",
    "equilibrium_test",
    "equilibrium_weight_norm",
    "examine_window",
    "exponential",
    "extrapolate",
    "find_window",
    "gaussian_loss_weights",
    "identity_ratio",
    "is_steady",
    "judge",
    "lengths_inside",
    "lsr_max_kappa",
    "mean_interval",
    "mean_rows",
    "measure_window",
    "noise_and_signal_for_scaling",
    "ratio_interval",
    "ratio_of_means",
    "relative_drift",
    "relaxation_steps",
    "sde_condition",
    "sde_threshold",
    "series_mean",
    "shows_no_drift",
    "standard_error",
    "standard_normals",
    "svag_coefficients",
    "svag_epochs",
    "svag_steps",
    "t_interval",
    "t_quantile",
    "tone",
    "validate_closeness",
    "validate_ell",
    "weight_norm_imbalance",
    "window_means",
    "with_weight_decay",
    "worst",
    "yaida_ratio",
]
