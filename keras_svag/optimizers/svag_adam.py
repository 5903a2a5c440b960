"""SVAG versions of Adam and AdamW."""

from collections.abc import Callable

import keras

from keras_svag.optimizers.amplification import AmplificationMixin, as_float
from keras_svag.theory.scaling_rules import ADAM_RULE, LINEAR_RULE


def _rules(optimizer):
    # The linear rule, which leaves all else as it is, does not keep the SDE: to compare with.
    del optimizer
    return ADAM_RULE, LINEAR_RULE


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGAdam(AmplificationMixin, keras.optimizers.Adam):
    """Adam with amplified gradient noise.

    The gradient of a step is that of `keras_svag.SVAG`. Adam runs with the hyperparameters that the
    square-root scaling rule of Malladi et al. gives for `kappa = 1 / ell`:

    ```
    learning_rate / sqrt(ell),   1 - (1 - beta_1) / ell,   1 - (1 - beta_2) / ell,
    epsilon * sqrt(ell),         weight_decay / sqrt(ell)
    ```

    As `ell` grows the run converges with an error of order `1 / ell` (visible from about `ell=16`)
    to the SDE of Adam, whose preconditioner is the gradient covariance alone. The second moment of
    Adam itself (`ell=1`) also contains the squared mean gradient, so the two differ by `O(G / N)`
    in each coordinate even where the SDE is a valid model: only the noise-dominated regime can be
    tested.

    Reference: [Malladi et al., 2022](https://arxiv.org/abs/2205.10287).

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` instance, or a
            callable without arguments. The learning rate of the Adam run being modeled. A schedule
            is evaluated at the effective step `floor(iterations / ell)`. Defaults to `0.001`.
        ell: Float >= 0.5, the amplification of the noise covariance (the square of the scale sigma
            in the paper). Defaults to `1.0`.
        beta_1: Float in [0, 1), decay rate of the first moment. Defaults to `0.9`.
        beta_2: Float in [0, 1), decay rate of the second moment. Defaults to `0.999`.
        epsilon: Float, the constant added to the root of the second moment. Defaults to `1e-7`.
        amsgrad: Boolean, whether to apply AMSGrad, whose maximum scales like the second moment.
            Defaults to `False`.
        weight_decay: Float, decoupled weight decay. Defaults to `None`.
        name: String, the name of the optimizer. Defaults to `"svag_adam"`.
        **kwargs: Other arguments of `keras.optimizers.Adam`. With `gradient_accumulation_steps=k` a
            step takes the mean of k amplified gradients. `clipnorm`, `clipvalue` and
            `global_clipnorm` cannot be used with `ell > 1`, because clipping the amplified gradient
            biases it.

    Raises:
        ValueError: If `ell` is not a finite number >= 0.5, cannot be combined with another
            argument, or is so small that `1 - (1 - beta) / ell` would not be positive.

    Example:

    >>> SVAGAdam(learning_rate=1e-3, ell=4).ell
    4.0
    """

    scaling_rule = staticmethod(_rules)

    def __init__(
        self,
        learning_rate: float | Callable = 0.001,
        ell: float = 1.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        name: str = "svag_adam",
        **kwargs,
    ):
        super().__init__(
            learning_rate=as_float(learning_rate),
            beta_1=as_float(beta_1),
            beta_2=as_float(beta_2),
            epsilon=as_float(epsilon),
            amsgrad=amsgrad,
            weight_decay=as_float(weight_decay),
            name=name,
            **kwargs,
        )
        self._init_amplification(ell)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGAdamW(AmplificationMixin, keras.optimizers.AdamW):
    """AdamW with amplified gradient noise: `SVAGAdam` with weight decay by default.

    Reference: [Malladi et al., 2022](https://arxiv.org/abs/2205.10287).

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` instance, or a
            callable without arguments. The learning rate of the AdamW run being modeled. A schedule
            is evaluated at the effective step `floor(iterations / ell)`. Defaults to `0.001`.
        ell: Float >= 0.5, the amplification of the noise covariance. Defaults to `1.0`.
        weight_decay: Float, decoupled weight decay of the AdamW run being modeled. Defaults to
            `0.004`.
        beta_1: Float in [0, 1), decay rate of the first moment. Defaults to `0.9`.
        beta_2: Float in [0, 1), decay rate of the second moment. Defaults to `0.999`.
        epsilon: Float, the constant added to the root of the second moment. Defaults to `1e-7`.
        amsgrad: Boolean, whether to apply AMSGrad, whose maximum scales like the second moment.
            Defaults to `False`.
        name: String, the name of the optimizer. Defaults to `"svag_adamw"`.
        **kwargs: Other arguments of `keras.optimizers.AdamW`. With `gradient_accumulation_steps=k`
            a step takes the mean of k amplified gradients. `clipnorm`, `clipvalue` and
            `global_clipnorm` cannot be used with `ell > 1`, because clipping the amplified gradient
            biases it.

    Raises:
        ValueError: As for `SVAGAdam`.

    Example:

    >>> SVAGAdamW(learning_rate=1e-3, ell=4).weight_decay
    0.004
    """

    scaling_rule = staticmethod(_rules)

    def __init__(
        self,
        learning_rate: float | Callable = 0.001,
        ell: float = 1.0,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        name: str = "svag_adamw",
        **kwargs,
    ):
        super().__init__(
            learning_rate=as_float(learning_rate),
            weight_decay=as_float(weight_decay),
            beta_1=as_float(beta_1),
            beta_2=as_float(beta_2),
            epsilon=as_float(epsilon),
            amsgrad=amsgrad,
            name=name,
            **kwargs,
        )
        self._init_amplification(ell)
