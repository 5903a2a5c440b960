"""The study of how fast SVAG converges to its SDE."""

from keras_svag.studies.weak_convergence.study import WeakConvergence

__all__ = ["WeakConvergence"]
