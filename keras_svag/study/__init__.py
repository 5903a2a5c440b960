"""The studies: a grid of runs, their records, a verdict and a report."""

from keras_svag.study.sde_validity import format_table, run_sde_validity

__all__ = ["format_table", "run_sde_validity"]
