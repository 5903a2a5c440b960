"""The studies: a grid of runs, their records, a verdict and a report."""

from keras_svag.study.linear_scaling import format_scaling, run_linear_scaling
from keras_svag.study.noisy_gradient_descent import format_comparisons, run_noisy_gradient_descent
from keras_svag.study.sde_validity import format_table, run_sde_validity
from keras_svag.study.training import format_result, run_training
from keras_svag.study.weak_convergence import format_errors, run_weak_convergence

__all__ = [
    "format_comparisons",
    "format_errors",
    "format_result",
    "format_scaling",
    "format_table",
    "run_linear_scaling",
    "run_noisy_gradient_descent",
    "run_sde_validity",
    "run_training",
    "run_weak_convergence",
]
