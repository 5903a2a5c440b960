"""How far does the linear scaling rule hold?"""

from keras_svag.studies.linear_scaling.study import LinearScaling

__all__ = ["LinearScaling"]
