"""Is a training run well modelled by its SDE?"""

from keras_svag.studies.sde_validity.study import SDEValidity

__all__ = ["SDEValidity"]
