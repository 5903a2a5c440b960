"""A decay rate b stored together with 1 - b."""

from keras import ops


class DecayRate:
    """A replacement for a float hyperparameter such as `beta_1` inside the update of Keras.

    Keras uses a decay rate as `b`, as `1 - b` and in `if b != 0`. A single variable would lose the
    digits of `1 - b` at large `ell`, and could not be tested in a compiled function.
    """

    def __init__(self, rate, complement):
        self._rate = rate
        self._complement = complement

    def __rsub__(self, one):
        # `one` is the Python number 1; the sum is correct for any other number too.
        return self._complement + (one - 1)

    def __tf_tensor__(self, dtype=None, name=None):
        return self._rate if dtype is None else ops.cast(self._rate, dtype)

    def __jax_array__(self):
        return self._rate

    def __ne__(self, other):
        # Keras compares with 0 only, and rates of 0 are not scaled.
        return True

    def __gt__(self, other):
        return True

    __hash__ = object.__hash__
