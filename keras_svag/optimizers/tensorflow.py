"""What the optimizers need from TensorFlow itself: gradients of embeddings."""

import tensorflow as tf


def densify(gradient):
    """Returns a dense tensor; sums repeated rows of `tf.IndexedSlices` (embedding gradients)."""
    return tf.convert_to_tensor(gradient)
