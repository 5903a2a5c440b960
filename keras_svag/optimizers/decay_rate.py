"""A decay rate b together with 1 - b, which is what amplification scales."""

from keras import ops


class DecayRate:
    """Stands in for a float hyperparameter such as `beta_1` inside Keras' update.

    Keras uses a decay rate as `b`, as `1 - b` and in `if b != 0`. A single variable would lose the
    digits of `1 - b` at large `ell`, and could not be tested in a compiled function.

    Args:
        rate: scalar float tensor, b.
        complement: scalar float tensor, 1 - b.
    """

    def __init__(self, rate, complement):
        self._rate = rate
        self._complement = complement

    def __rsub__(self, one):
        # `one` is the Python number 1; the sum keeps any other correct too.
        return self._complement + (one - 1)

    def __tf_tensor__(self, dtype=None, name=None):
        """The rate as a tensor; TensorFlow calls this."""
        return self._rate if dtype is None else ops.cast(self._rate, dtype)

    def __jax_array__(self):
        """The rate as an array; JAX calls this."""
        return self._rate

    def __ne__(self, other):
        # Only ever compared with 0; rates of 0 are not scaled.
        return True

    def __gt__(self, other):
        return True

    __hash__ = object.__hash__
