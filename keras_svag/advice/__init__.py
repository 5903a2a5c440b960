"""Advice on larger batches from the records of one run.

`keras_svag.callbacks.BatchSizeAdvisor` makes the records during `fit`. The bound is
`theory.lsr_max_kappa` (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5).
"""

from keras_svag.advice.advice import Advice, advise
from keras_svag.advice.probe import Throughput, probe_throughput
from keras_svag.advice.readings import Recorder
from keras_svag.advice.throughput import BatchSizeTable, weigh_batch_sizes

__all__ = [
    "Advice",
    "BatchSizeTable",
    "Recorder",
    "Throughput",
    "advise",
    "probe_throughput",
    "weigh_batch_sizes",
]
