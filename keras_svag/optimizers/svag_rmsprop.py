"""SVAG version of RMSprop."""

from collections.abc import Callable

import keras

from keras_svag.optimizers.amplification import AmplificationMixin, as_float
from keras_svag.theory.scaling_rules import RMSPROP_MOMENTUM_RULE, RMSPROP_RULE


def _rules(optimizer):
    return (RMSPROP_MOMENTUM_RULE if optimizer.momentum else RMSPROP_RULE,)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGRMSprop(AmplificationMixin, keras.optimizers.RMSprop):
    """RMSprop with amplified gradient noise.

    The gradient of a step is that of `keras_svag.SVAG`. RMSprop runs with the hyperparameters that
    the square-root scaling rule of Malladi et al. gives for `kappa = 1 / ell`:

    ```
    learning_rate / sqrt(ell),  1 - (1 - rho) / ell,  epsilon * ell,  weight_decay / sqrt(ell)
    ```

    or, with `momentum` b, `learning_rate / ell**1.5`, `1 - (1 - b) / ell` and
    `weight_decay * sqrt(ell)`. Epsilon is multiplied by `ell`, not its root, because Keras adds it
    inside the root.

    As `ell` grows the run converges to the SDE of RMSprop as described for `keras_svag.SVAGAdam`,
    with `centered` to the same one. Keras initializes the second moment with zero and does not
    correct for it, so the first `1 / (1 - rho)` effective steps are too long and have no limit:
    warm up with a small learning rate, or ignore them.

    Reference: [Malladi et al., 2022](https://arxiv.org/abs/2205.10287).

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` instance, or a
            callable without arguments. The learning rate of the RMSprop run being modeled. A
            schedule is evaluated at the effective step `floor(iterations / ell)`. Defaults to
            `0.001`.
        ell: Float >= 0.5, the amplification of the noise covariance. Defaults to `1.0`.
        rho: Float in [0, 1), decay rate of the second moment. Defaults to `0.9`.
        momentum: Float in [0, 1). Defaults to `0.0`.
        epsilon: Float, the constant added to the second moment inside the root. Defaults to `1e-7`.
        centered: Boolean, whether to subtract the squared mean gradient from the second moment.
            Defaults to `False`.
        weight_decay: Float, decoupled weight decay. Defaults to `None`.
        name: String, the name of the optimizer. Defaults to `"svag_rmsprop"`.
        **kwargs: Other arguments of `keras.optimizers.RMSprop`. With
            `gradient_accumulation_steps=k` a step takes the mean of k amplified gradients.
            `clipnorm`, `clipvalue` and `global_clipnorm` cannot be used with `ell > 1`, because
            clipping the amplified gradient biases it.

    Raises:
        ValueError: If `ell` is not a finite number >= 0.5, cannot be combined with another
            argument, or is so small that `1 - (1 - rho) / ell` would not be positive.

    Example:

    >>> SVAGRMSprop(learning_rate=1e-3, ell=4).ell
    4.0
    """

    scaling_rule = staticmethod(_rules)

    def __init__(
        self,
        learning_rate: float | Callable = 0.001,
        ell: float = 1.0,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        weight_decay: float | None = None,
        name: str = "svag_rmsprop",
        **kwargs,
    ):
        super().__init__(
            learning_rate=as_float(learning_rate),
            rho=as_float(rho),
            momentum=as_float(momentum),
            epsilon=as_float(epsilon),
            centered=centered,
            weight_decay=as_float(weight_decay),
            name=name,
            **kwargs,
        )
        self._init_amplification(ell)
