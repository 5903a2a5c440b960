"""The study of branches at larger batch sizes."""

from keras_svag.studies.branched_batch_size.study import BranchedBatchSize

__all__ = ["BranchedBatchSize"]
