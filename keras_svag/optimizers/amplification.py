"""The amplification mixin: what turns a Keras optimizer into its SVAG version.

Li, Malladi, Arora (NeurIPS 2021, arXiv 2102.12470): the step is
`x <- x - (eta / l) (r1 g1 + r2 g2)`, with `g1`, `g2` the gradients of two independent batches.

With other optimizers the hyperparameters follow the scaling rule of the class at
kappa = 1/l. The user's hyperparameters stay as they are (those of the run that is modelled); the
scaled ones are put in place only while Keras' own update runs. They, `ell` and `r1` are optimizer
variables, so one compiled program serves every `ell`.
"""

import contextlib
import numbers

import keras
import numpy as np
from keras import ops

from keras_svag._backend import backend_module
from keras_svag.optimizers import registry, scaling
from keras_svag.optimizers.decay_rate import DecayRate
from keras_svag.theory import svag_coefficients
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.scaling_rules import ScalingRule

backend = backend_module(__package__)


def as_float(value):
    """A number as a Python float: Keras refuses ints and NumPy scalars, of which configs are full.

    Args:
        value: anything.

    Returns:
        A float, or `value` itself if it is no number.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return float(value) if is_number else value


class _ScaledView:
    """Read-only stand-in for an optimizer in which some hyperparameters are replaced.

    Swapping the attributes of the optimizer itself would not do: the threads of replicas
    interleave.
    """

    def __init__(self, optimizer, **replaced):
        self._optimizer = optimizer
        self.__dict__.update(replaced)

    def __getattr__(self, name):
        return getattr(self._optimizer, name)


class AmplificationMixin:
    """Adds amplification to a Keras optimizer; goes in front of it among the bases.

    Two ways in:

    - `keras_svag.SVAGModel` differentiates both halves in one step, combines them with `combine`
      and applies the result inside `with optimizer.combined()`.
    - Under any other model each `apply` brings one batch. The first of two consecutive calls
      stores `r1 g1`, the second adds `r2 g2` and steps; `iterations`, weight decay and moving
      averages advance once a pair. (A non-finite batch that a `LossScaleOptimizer` drops leaves the
      stored half waiting for the next good one.)

    A class with it names its scaling rule and calls `_init_amplification` after the constructor of
    Keras. By being defined it is known to `svag_version`, `scale_optimizer` and the studies:

    ```
    @keras.saving.register_keras_serializable(package="mine")
    class SVAGLion(AmplificationMixin, keras.optimizers.Lion):
        scaling_rule = ScalingRule("mine", {"learning_rate": 1.0, "weight_decay": 0.0}, ("beta_1",))

        def __init__(self, learning_rate=0.001, ell=1.0, **kwargs):
            super().__init__(learning_rate, **kwargs)
            self._init_amplification(ell)
    ```

    Attributes:
        scaling_rule: the `keras_svag.theory.scaling_rules.ScalingRule` that keeps the SDE, or a
            static function of an optimizer of the class that gives a tuple of rules, that one first
            and then those that can be asked for by name. It holds for the Keras class too.

    Raises:
        ValueError: at the definition of a class, if `scaling_rule` is something else.
    """

    scaling_rule = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.scaling_rule is None:
            return
        if not (isinstance(cls.scaling_rule, ScalingRule) or callable(cls.scaling_rule)):
            raise ValueError(
                "`scaling_rule` must be a ScalingRule, or a static function of an optimizer that "
                f"gives a tuple of them. Received: scaling_rule={cls.scaling_rule!r} of {cls}"
            )
        after = cls.__mro__[cls.__mro__.index(AmplificationMixin) + 1 :]
        for base in after:
            if issubclass(base, keras.optimizers.Optimizer):
                registry.register(cls, base)
                return

    def _init_amplification(self, ell):
        """Creates the amplification variables; called once, after the Keras constructor."""
        ell = validate_ell(ell)
        self._refuse_unsupported(ell)
        self._ell_config = ell
        self._combined_gradients = False
        values = self._amplified_values(ell)
        self._amplified = {name: self._scalar(name, value) for name, value in values.items()}
        self._half_stored = self._scalar("half_stored", 0, "int32")

    def _amplified_values(self, ell):
        """What depends on `ell`: coefficients, divisors, decay rates and their complements."""
        rule = scaling.find_rule(self)
        values = {"ell": ell, "r1": svag_coefficients(ell)[0]}
        # Divisors, not factors: dividing by a power of two, or by 1, is exact.
        values |= {f"{name}_divisor": ell**power for name, power in rule.powers.items()}
        for name in scaling.scaled_decay_rates(self):
            rate = getattr(self, name)
            values[name] = 1 - (1 - rate) / ell if ell != 1 else rate
            values[f"{name}_complement"] = (1 - rate) / ell
        return values

    def _scalar(self, name, value, dtype=None):
        # Not floatx alone: the weights of the halves need float32 also where that is bfloat16.
        variable = keras.Variable(
            value,
            name=name,
            dtype=dtype or keras.backend.result_type(keras.backend.floatx(), "float32"),
            trainable=False,
            aggregation="only_first_replica",
        )
        self._track_variable(variable)
        return variable

    def _hyperparameter(self, name):
        """The scaled value of a hyperparameter, to be used in Keras' update."""
        if f"{name}_divisor" in self._amplified:
            divisor = self._tensor(f"{name}_divisor")
            return ops.cast(getattr(self, name), divisor.dtype) / divisor
        return DecayRate(self._tensor(name), self._tensor(f"{name}_complement"))

    def _tensor(self, name):
        variable = self._amplified[name]
        return ops.cast(variable, variable.dtype)

    def _scaled_view(self, *names):
        return _ScaledView(self, **{name: self._hyperparameter(name) for name in names})

    def _refuse_unsupported(self, ell):
        if self.gradient_accumulation_steps:
            raise ValueError(
                "`gradient_accumulation_steps` is not supported: it averages batches with equal "
                "weights, SVAG weights exactly two. Received: gradient_accumulation_steps="
                f"{self.gradient_accumulation_steps}. Use a larger batch size instead."
            )
        clip = {
            name: getattr(self, name)
            for name in ("clipnorm", "clipvalue", "global_clipnorm")
            if getattr(self, name) is not None
        }
        if clip and ell > 1:
            name, value = next(iter(clip.items()))
            raise ValueError(
                f"`{name}` cannot be used with `ell > 1`: the amplified gradient is clipped far "
                "more often than the gradient of the run that is modelled, which biases it. "
                f"Received: {name}={value}, ell={ell}. Set ell=1 or remove `{name}`."
            )
        if self.ema_overwrite_frequency and ell != 1:
            raise ValueError(
                "`ema_overwrite_frequency` must be None unless `ell` is 1: it counts steps, of "
                "which amplification makes `ell` times as many. Received: "
                f"ema_overwrite_frequency={self.ema_overwrite_frequency}, ell={ell}. Call "
                "`finalize_variable_values` at the end instead."
            )
        if ell < 1:
            limit = scaling.max_kappa(self)
            if 1 / ell >= limit:
                raise ValueError(
                    f"`ell` must be above {1 / limit:.6g} for "
                    f"{', '.join(scaling.scaled_decay_rates(self))}: amplification by ell < 1 "
                    "scales 1 - b by 1 / ell, and b must stay above 0. "
                    f"Received: ell={ell}. Use a larger ell."
                )

    @property
    def ell(self):
        """Amplification of the noise covariance, a float; assignable, also between fits."""
        value = float(self._amplified["ell"].numpy())
        # float32 turns 7.3 into 7.30000019; give back what the user wrote.
        return self._ell_config if np.float32(self._ell_config) == np.float32(value) else value

    @ell.setter
    def ell(self, ell):
        ell = validate_ell(ell)
        self._refuse_unsupported(ell)
        self._ell_config = ell
        for name, value in self._amplified_values(ell).items():
            self._amplified[name].assign(value)

    @property
    def amplified_hyperparameters(self):
        """What Keras' update runs with at this `ell`: a dict of floats.

        `learning_rate` is that of the current step.
        """
        values = {}
        for name in scaling.find_rule(self).powers:
            if getattr(self, name) is not None:
                values[name] = float(self._hyperparameter(name))
        for name in scaling.scaled_decay_rates(self):
            values[name] = float(self._amplified[name].numpy())
        return values

    @property
    def effective_step(self):
        """SVAG steps taken divided by `ell`, rounded down: the step that schedules see."""
        ell = self._amplified["ell"]
        return ops.cast(ops.floor(ops.cast(self._iterations, ell.dtype) / ell), "int32")

    def build(self, variables):
        """Creates the optimizer's variables, with one float32 accumulator per weight.

        The accumulators are there even if they are not used: a different number of variables
        would make Keras skip the optimizer when it loads a file.

        Args:
            variables: list of model variables.
        """
        if self.built:
            return
        super().build(variables)
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
        """The amplified gradient `r1 g1 + r2 g2`, in float32 or better.

        Args:
            first: list of gradients of the first half; entries may be `None`.
            second: list of gradients of the second half, of the same structure.

        Returns:
            A list of tensors, with `None` where a gradient is missing.
        """
        return [
            None if g1 is None or g2 is None else self._weighted(g1, 1) + self._weighted(g2, 2)
            for g1, g2 in zip(first, second)
        ]

    def _weighted(self, gradient, half):
        gradient = backend.densify(gradient)
        gradient = ops.cast(gradient, keras.backend.result_type(gradient.dtype, "float32"))
        r1 = ops.cast(self._amplified["r1"], gradient.dtype)
        # 1 - r1 is exact in floating point, so the weights sum to exactly 1.
        return gradient * (r1 if half == 1 else 1.0 - r1)

    @contextlib.contextmanager
    def combined(self):
        """Context in which `apply` takes its gradients as already combined."""
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
        stored = [self._stored_gradients[self._get_variable_index(v)] for v in trainable_variables]
        # What is stored is the sum over replicas (the mean of `replicas` times each), so that all
        # hold the same and a checkpoint has all of it; Keras sums over replicas again.
        replicas = backend.num_gradient_shards()

        def store_first():
            for accumulator, gradient in zip(stored, grads):
                accumulator.assign(self._weighted(gradient, 1) * replicas)
            self._half_stored.assign(1)
            # Keras counts every call; `iterations` counts SVAG steps.
            self._iterations.assign_sub(1)

        def add_second_and_step():
            total = [a / replicas + self._weighted(g, 2) for a, g in zip(stored, grads)]
            super(AmplificationMixin, self)._backend_apply_gradients(total, trainable_variables)
            self._half_stored.assign(0)

        backend.either(
            ops.equal(self._half_stored, 0),
            store_first,
            add_second_and_step,
            [*self.variables, *self._trainable_variables],
        )

    def _get_current_learning_rate(self):
        if isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return self._learning_rate(self.effective_step)
        return super()._get_current_learning_rate()

    def update_step(self, gradient, variable, learning_rate):
        """Keras' update with the hyperparameters scaled by amplification.

        Args:
            gradient: the amplified gradient of one weight.
            variable: the weight.
            learning_rate: eta, the learning rate of the run that is modelled.
        """
        names = scaling.find_rule(self).powers.keys() | set(scaling.scaled_decay_rates(self))
        names -= {"learning_rate", "weight_decay", "ema_momentum"}
        replaced = {name: self._hyperparameter(name) for name in names}
        view = _ScaledView(
            self,
            **{
                # Keras adds epsilon as it is, which must then be of the variable's dtype.
                name: value if isinstance(value, DecayRate) else ops.cast(value, variable.dtype)
                for name, value in replaced.items()
            },
        )
        rate = ops.convert_to_tensor(learning_rate)
        rate = rate / ops.cast(self._amplified["learning_rate_divisor"], rate.dtype)
        super().update_step.__func__(view, gradient, variable, rate)

    def _apply_weight_decay(self, variables):
        if self.weight_decay is not None:
            view = self._scaled_view("learning_rate", "weight_decay")
            super()._apply_weight_decay.__func__(view, variables)

    def _update_model_variables_moving_average(self, trainable_variables):
        if self.use_ema:
            view = self._scaled_view("ema_momentum") if self.ema_momentum else self
            super()._update_model_variables_moving_average.__func__(view, trainable_variables)

    def get_config(self):
        """Returns the arguments of the constructor, for serialization.

        Returns:
            A dict.
        """
        return {**super().get_config(), "ell": self.ell}
