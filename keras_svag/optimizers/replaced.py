"""Stand-ins for hyperparameters inside the update of Keras."""

from keras import ops

from keras_svag._checks import english_list


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


class AmplifiedValues:
    """The numbers of an optimizer that depend on `ell`, by name, in one variable."""

    # On a GPU, every variable is a copy or a kernel of its own.

    def __init__(self, variable, names):
        self.variable = variable
        self._names = tuple(names)

    def tensors(self):
        """Returns all numbers, as a dict of tensors."""
        values = ops.unstack(ops.convert_to_tensor(self.variable), len(self._names))
        return dict(zip(self._names, values))

    def hyperparameters(self, optimizer, names):
        """Returns the scaled values of hyperparameters, for the update of Keras, as a dict."""
        tensors = self.tensors()

        def scaled(name):
            if f"{name}_divisor" not in tensors:
                return DecayRate(tensors[name], tensors[f"{name}_complement"])
            divisor = tensors[f"{name}_divisor"]
            return ops.cast(getattr(optimizer, name), divisor.dtype) / divisor

        return {name: scaled(name) for name in names}

    def assign(self, values):
        """Assigns numbers by name; those that are used no more, as of `momentum=0`, stay."""
        if new := values.keys() - set(self._names):
            raise ValueError(
                "An SVAG optimizer must use the hyperparameters that it was created with. "
                f"Received: values of {english_list(sorted(new))}, which it did not use then. "
                "Create another."
            )
        kept = ops.convert_to_numpy(self.variable)
        self.variable.assign([values.get(n, kept[i]) for i, n in enumerate(self._names)])


class ScaledView:
    """A view of an optimizer in which some hyperparameters are replaced.

    Replacing them in the optimizer itself would not be safe: the threads of replicas interleave.
    """

    def __init__(self, optimizer, **replaced):
        self._optimizer = optimizer
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(self._optimizer, name)
