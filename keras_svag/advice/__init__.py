"""Advice on larger batches from the records of one run.

`keras_svag.callbacks.BatchSizeAdvisor` makes the records during `fit`. The bound is
`theory.lsr_max_kappa` (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5).
"""

from keras_svag.advice.advice import Advice, advise
from keras_svag.advice.readings import Recorder

__all__ = ["Advice", "Recorder", "advise"]
