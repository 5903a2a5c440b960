"""The mixin that turns a Keras optimizer into its SVAG version."""

import contextlib
import numbers
import warnings

import keras
import numpy as np
from keras import ops

from keras_svag._backend import backend_module
from keras_svag.optimizers import registry, scaling, state
from keras_svag.optimizers.replaced import AmplifiedValues, DecayRate, ScaledView
from keras_svag.theory import svag_coefficients
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.scaling_rules import ScalingRule, scale_average_rate

backend = backend_module(__package__)
PAIRING = (
    "{} pairs consecutive batches: one step for every two. For a step on the two halves of each "
    "batch, train keras_svag.from_keras(model)."
)


def as_float(value):
    """Returns a number as a Python float, as Keras requires, and anything else unchanged."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return float(value) if is_number else value


def dense_gradient(gradient):
    """Returns a gradient as a dense tensor, in float32 or better."""
    gradient = backend.densify(gradient)
    return ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))


def _weighted(gradient, r1, half):
    """Returns a gradient times r1, or for the second half r2, in float32 or better."""
    gradient = dense_gradient(gradient)
    r1 = ops.cast(r1, gradient.dtype)
    # 1 - r1 is exact in floating point, so the weights sum to exactly 1.
    return gradient * (r1 if half == 1 else 1.0 - r1)


class AmplificationMixin:
    """Adds amplification to a Keras optimizer; put it before the Keras class among the bases.

    A step of Li, Malladi, Arora (2021) is `x -= learning_rate / ell * (r1 * g1 + r2 * g2)`, where
    `g1`, `g2` are the gradients of two independent batches. Other hyperparameters follow the
    scaling rule of the class at `kappa = 1 / ell`, but only inside the update of Keras: the
    attributes of the optimizer stay those of the run being modeled. The scaled values are optimizer
    variables, so one compiled program serves every `ell`.

    There are two ways to train:

    - `keras_svag.SVAGModel` differentiates both halves of a batch in one step, combines the
      gradients with `combine`, and applies the result inside `with optimizer.combined()`.
    - With any other model, each call of `apply` brings the gradient of one batch; the first warns.
      Of two calls one stores `r1 * g1`, the other adds `r2 * g2` and takes the step; `iterations`,
      weight decay and averages advance once per pair. If a `LossScaleOptimizer` drops a batch that
      is not finite, the stored half waits for the next batch.

    `gradient_accumulation_steps=k` applies the mean of k amplified gradients: the step of batches k
    times as large, of noise N / k.

    A subclass calls `_init_amplification` after the constructor of Keras, and sets `scaling_rule`:
    the `keras_svag.theory.scaling_rules.ScalingRule` that preserves the SDE, or a static function
    of an optimizer that returns a tuple of rules, first that one, then those that can be requested
    by name. Defining the class registers it: `svag_version`, `scale_optimizer` and the studies then
    accept optimizers of its Keras class.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470).

    Raises:
        ValueError: When a subclass is defined whose `scaling_rule` is anything else.

    Example:

    >>> from keras_svag.theory.scaling_rules import ScalingRule
    >>> class MySGD(keras.optimizers.SGD):
    ...     pass
    >>> class SVAGMySGD(AmplificationMixin, MySGD):
    ...     scaling_rule = ScalingRule("mine", {"learning_rate": 1.0, "weight_decay": 0.0})
    ...
    ...     def __init__(self, learning_rate=0.01, ell=1.0, **kwargs):
    ...         super().__init__(learning_rate, **kwargs)
    ...         self._init_amplification(ell)
    >>> SVAGMySGD(0.5, ell=4).amplified_hyperparameters
    {'learning_rate': 0.125}
    """

    scaling_rule = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.scaling_rule is None:
            return
        if not (isinstance(cls.scaling_rule, ScalingRule) or callable(cls.scaling_rule)):
            raise ValueError(
                "`scaling_rule` must be a ScalingRule, or a static function of an optimizer that "
                f"returns a tuple of them. Received: scaling_rule={cls.scaling_rule!r} of {cls}"
            )
        after = cls.__mro__[cls.__mro__.index(AmplificationMixin) + 1 :]
        keras_classes = [c for c in after if issubclass(c, keras.optimizers.Optimizer)]
        if keras_classes:
            registry.register(cls, keras_classes[0])

    def _init_amplification(self, ell):
        """Creates the amplification variables; to be called once, after the Keras constructor."""
        ell = validate_ell(ell)
        scaling.check_supported(self, ell)
        self._ell_config = ell
        self._combined_gradients = False
        self._is_pairing = False
        values = self._amplified_values(ell)
        self._amplified = AmplifiedValues(self._track("amplified", list(values.values())), values)
        # Apart: as a part of the other, XLA on a CPU keeps the gradients of both halves.
        self._r1 = self._track("r1", svag_coefficients(ell)[0])
        self._half_stored = self._track("half_stored", 0, "int32")

    def _amplified_values(self, ell):
        """Returns the values that depend on `ell`, but r1, by name."""
        rule = scaling.find_rule(self)
        # Divisors, not factors: dividing by a power of two, or by 1, is exact.
        values = {f"{name}_divisor": ell**power for name, power in rule.powers.items()}
        values["ell"] = ell
        for name in scaling.scaled_decay_rates(self):
            rate, divisor = getattr(self, name), ell ** rule.decay_powers[name]
            values[name] = 1 - (1 - rate) / divisor if ell != 1 else rate
            values[f"{name}_complement"] = (1 - rate) / divisor
        if self.use_ema:
            values["ema_momentum"] = scale_average_rate(self.ema_momentum, 1 / ell)
        return values

    def _amplify(self, ell):
        """Assigns what depends on `ell`."""
        self._amplified.assign(self._amplified_values(ell))
        self._r1.assign(svag_coefficients(ell)[0])

    def _track(self, name, value, dtype=None):
        # At least float32, also where floatx is bfloat16: r1 and 1 - b need the digits.
        variable = keras.Variable(
            value,
            name=name,
            dtype=dtype or keras.backend.result_type(keras.backend.floatx(), "float32"),
            trainable=False,
            aggregation="only_first_replica",
        )
        self._track_variable(variable)
        return variable

    def _scaled_view(self, *names, dtype=None):
        values = self._amplified.hyperparameters(self, names)
        if dtype:
            # Keras adds epsilon without a cast, so it must have the dtype of the weight.
            values = {
                n: v if isinstance(v, DecayRate) else ops.cast(v, dtype) for n, v in values.items()
            }
        return ScaledView(self, **values)

    @property
    def ell(self) -> float:
        """Amplification of the noise covariance, a float; may be assigned between fits."""
        value = float(self._amplified.tensors()["ell"])
        # float32 turns 7.3 into 7.30000019; return what the user wrote.
        return self._ell_config if np.float32(self._ell_config) == np.float32(value) else value

    @ell.setter
    def ell(self, ell: float):
        ell = validate_ell(ell)
        scaling.check_supported(self, ell)
        self._amplify(ell)
        self._ell_config = ell

    @property
    def amplified_hyperparameters(self):
        """Hyperparameters that the update runs with at this `ell` and step, a dict of floats."""
        powers, rates = scaling.find_rule(self).powers, scaling.scaled_decay_rates(self)
        names = (name for name in powers if getattr(self, name) is not None)
        values = self._amplified.hyperparameters(self, names)
        rates = (*rates, "ema_momentum") if self.use_ema else rates
        values |= {name: self._amplified.tensors()[name] for name in rates}
        return {name: float(value) for name, value in values.items()}

    @property
    def effective_step(self):
        """Number of SVAG steps divided by `ell`, rounded down: one per step of the run modeled."""
        ell = self._amplified.tensors()["ell"]
        return ops.cast(ops.floor(ops.cast(self.iterations, ell.dtype) / ell), "int32")

    def build(self, variables):
        """Creates the optimizer's variables, with one accumulator per weight."""
        if self.built:
            return
        if self.gradient_accumulation_steps and backend.num_gradient_shards() > 1:
            raise ValueError(
                "`gradient_accumulation_steps` cannot be used with several replicas of TensorFlow, "
                "which has no branches across them in Keras. Received: gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}. Use a larger batch size, or JAX."
            )
        super().build(variables)
        # Also where they are not used: with another number of variables Keras would skip the
        # optimizer when it loads a file.
        self._stored_gradients = [
            self.add_variable(
                shape=v.shape,
                initializer="zeros",
                dtype=keras.backend.result_type(v.dtype, "float32"),
                aggregation="mean",
                name=f"stored_gradient_{i}",
            )
            for i, v in enumerate(variables)
        ]

    def combine(self, first, second):
        """Returns the list of `r1 g1 + r2 g2`, in float32 or better; `None` where one is `None`."""
        return [
            None
            if a is None or b is None
            else _weighted(a, self._r1, 1) + _weighted(b, self._r1, 2)
            for a, b in zip(first, second)
        ]

    @contextlib.contextmanager
    def combined(self):
        """Opens a context in which `apply` takes its gradients as already combined."""
        self._combined_gradients = True
        try:
            yield
        finally:
            self._combined_gradients = False

    def _backend_apply_gradients(self, grads, trainable_variables):
        if self._combined_gradients:
            super()._backend_apply_gradients(grads, trainable_variables)
        else:
            self._apply_pair(grads, trainable_variables)

    def _apply_pair(self, grads, trainable_variables):
        if not self._is_pairing:
            self._is_pairing = True
            warnings.warn(PAIRING.format(type(self).__name__), stacklevel=2)
        stored = [self._stored_gradients[self._get_variable_index(v)] for v in trainable_variables]
        grads = [ops.cast(dense_gradient(g), a.dtype) for a, g in zip(stored, grads)]
        # The sum over replicas is stored (the mean of `shards` times each), so that all hold the
        # same value and a checkpoint is complete; Keras sums over replicas again.
        shards = backend.num_gradient_shards()

        def store_first():
            for accumulator, gradient in zip(stored, grads):
                accumulator.assign(_weighted(gradient, self._r1, 1) * shards)
            self._half_stored.assign(1)
            # Keras counts every call, also of those that accumulate; a pair is to count once.
            self._iterations.assign_sub(1)

        def add_second_and_step():
            total = [a / shards + _weighted(g, self._r1, 2) for a, g in zip(stored, grads)]
            super(AmplificationMixin, self)._backend_apply_gradients(total, trainable_variables)
            self._half_stored.assign(0)

        backend.cond(
            ops.equal(self._half_stored, 0),
            store_first,
            add_second_and_step,
            [*self.variables, *self._trainable_variables],
        )

    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self._schedule_step())
        return super()._get_current_learning_rate()

    def _schedule_step(self):
        """Returns the step that schedules see: as in Keras, it counts accumulated batches."""
        count = self.gradient_accumulation_steps or 1
        # An update comes with the last of them.
        return self.effective_step * count + ops.cast(self._iterations % count, "int32")

    def update_step(self, gradient, variable, learning_rate):
        """Runs the update of Keras with the scaled hyperparameters."""
        names = scaling.find_rule(self).powers.keys() | set(scaling.scaled_decay_rates(self))
        names -= {"learning_rate", "weight_decay"}
        view = self._scaled_view(*names, dtype=variable.dtype)
        rate = ops.convert_to_tensor(learning_rate)
        rate = rate / ops.cast(self._amplified.tensors()["learning_rate_divisor"], rate.dtype)
        super().update_step.__func__(view, gradient, variable, rate)

    def _apply_weight_decay(self, variables):
        if self.weight_decay is not None:
            view = self._scaled_view("learning_rate", "weight_decay")
            super()._apply_weight_decay.__func__(view, variables)

    def _update_model_variables_moving_average(self, trainable_variables):
        if self.use_ema:
            view = ScaledView(self, ema_momentum=self._amplified.tensors()["ema_momentum"])
            super()._update_model_variables_moving_average.__func__(view, trainable_variables)

    def load_own_variables(self, store):
        """Loads the variables from a file, or none if they do not fit; hyperparameters stay."""
        if state.fits(store, self):
            super().load_own_variables(store)
            self._amplify(self.ell)

    def get_config(self):
        """Returns the arguments of the constructor, for serialization."""
        return {**super().get_config(), "ell": self.ell}
