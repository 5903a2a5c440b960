"""TensorFlow cannot vectorize a train step over the values of its variables."""

VmappedTrainLoop = None
