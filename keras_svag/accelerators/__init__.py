"""Programs compiled for TPUs and GPUs that are not there: their cost, as the compiler says."""

from typing import Any

from keras_svag._backend import backend_module
from keras_svag.accelerators.chips import CHIPS, Chip, parse_topology
from keras_svag.accelerators.counts import Counts, roofline_seconds
from keras_svag.accelerators.program import Program

# `None` on TensorFlow.
Target: Any = backend_module(__package__).Target

__all__ = ["CHIPS", "Chip", "Counts", "Program", "Target", "parse_topology", "roofline_seconds"]
