"""The study of whether SGD is well modeled by its SDE."""

from keras_svag.studies.sde_validity.study import SDEValidity

__all__ = ["SDEValidity"]
