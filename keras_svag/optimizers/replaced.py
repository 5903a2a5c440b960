"""Stand-ins for hyperparameters inside the update of Keras."""

from keras import ops


class DecayRate:
    """A decay rate b such as `beta_1`, stored together with 1 - b.

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


class ScaledView:
    """A view of an optimizer in which some hyperparameters are replaced.

    Replacing them in the optimizer itself would not be safe: the threads of replicas interleave.
    """

    def __init__(self, optimizer, **replaced):
        self._optimizer = optimizer
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(self._optimizer, name)
