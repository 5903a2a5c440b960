"""What TensorFlow does not have: a train step vectorised over the values of its variables."""

VmappedTrainLoop = None
