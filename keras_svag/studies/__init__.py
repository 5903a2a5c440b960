"""The studies: each trains a recipe in many settings, judges the runs and writes a report.

`SDEValidity(recipe).run(workdir)` trains; `load(workdir)` reads what is on disk.
"""

from keras_svag.studies.base.result import Result
from keras_svag.studies.base.study import STUDIES, Study
from keras_svag.studies.branched_batch_size import BranchedBatchSize
from keras_svag.studies.comparison import Comparison, compare
from keras_svag.studies.linear_scaling import LinearScaling
from keras_svag.studies.noisy_gradient_descent import NoisyGradientDescent
from keras_svag.studies.one_call import check_linear_scaling, check_sde
from keras_svag.studies.sde_validity import SDEValidity
from keras_svag.studies.stored import load
from keras_svag.studies.training import Training
from keras_svag.studies.weak_convergence import WeakConvergence

__all__ = [
    "STUDIES",
    "BranchedBatchSize",
    "Comparison",
    "LinearScaling",
    "NoisyGradientDescent",
    "Result",
    "SDEValidity",
    "Study",
    "Training",
    "WeakConvergence",
    "check_linear_scaling",
    "check_sde",
    "compare",
    "load",
]
