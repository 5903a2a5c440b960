"""SVAG version of stochastic gradient descent."""

from collections.abc import Callable

import keras

from keras_svag.optimizers.amplification import AmplificationMixin, as_float
from keras_svag.theory.scaling_rules import HEAVY_BALL_RULE, LINEAR_RULE


def _rules(optimizer):
    # Heavy ball does not tend to the linear rule as b -> 0: they keep different things.
    return (HEAVY_BALL_RULE, LINEAR_RULE) if optimizer.momentum else (LINEAR_RULE,)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAG(AmplificationMixin, keras.optimizers.SGD):
    """Stochastic variance amplified gradient: SGD with its gradient noise multiplied by `ell`.

    Each step takes two independent batches of `B` examples with gradients `g1` and `g2`:

    ```
    s = sqrt(2 * ell - 1)
    g = (1 + s) / 2 * g1 + (1 - s) / 2 * g2
    w = w - learning_rate / ell * g
    ```

    `g` has the mean of an ordinary gradient and `ell` times its covariance, and the step is `ell`
    times shorter. The noise per unit of time is unchanged, and as `ell` grows the run converges to
    the stochastic differential equation (SDE) of SGD,
    `dX = -grad L dt + (learning_rate * Sigma)^(1/2) dW`. If curves at growing `ell` agree with
    those at `ell=1`, the SDE is a valid model of the SGD run. `ell=1` is SGD at batch size `B`;
    `ell=1/2` is SGD at `2 * B` with `2 * learning_rate`.

    Not to be confused with the variance *adapted* gradient (M-SVAG) of Balles and Hennig.

    With `keras_svag.SVAGModel`, both halves of a batch of `2 * B` examples are differentiated in
    one step. With any other `keras.Model`, consecutive batches of `B` examples are paired, with a
    warning: `keras.models.clone_model`, for example, turns an `SVAGSequential` into a plain
    `Sequential`. The two batches must be of equal size and independent (see
    `keras_svag.datasets.Sampler`); this is not checked.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470).

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule` instance, or a
            callable without arguments. The learning rate of the SGD run being modeled, not divided
            by `ell`. A schedule is evaluated at the effective step `floor(iterations / ell)`.
            Defaults to `0.01`.
        ell: Float >= 0.5, the amplification of the noise covariance. A run takes `ell` times as
            many steps as SGD (see `keras_svag.svag_steps`). May be assigned between fits without
            recompiling. Defaults to `1.0`.
        momentum: Float b in [0, 1). If b > 0, the step uses `learning_rate / ell**2`, momentum
            `1 - (1 - b) / ell` and `weight_decay * ell`, which preserves the SDE
            `dV = -(1 - b) V dt - learning_rate * (grad L dt - Sigma^(1/2) dW), dX = V dt`. Changing
            `ell` during training does not rescale the velocity. Defaults to `0.0`.
        nesterov: Boolean, whether to apply Nesterov momentum, which converges to the same SDE as
            `ell` grows. Defaults to `False`.
        weight_decay: Float, decoupled weight decay as in Keras: each step first subtracts
            `learning_rate / ell * weight_decay * w`. Defaults to `None`.
        name: String, the name of the optimizer. Defaults to `"svag"`.
        **kwargs: Other arguments of `keras.optimizers.SGD`. `gradient_accumulation_steps` is not
            supported, nor are `clipnorm`, `clipvalue` and `global_clipnorm` with `ell > 1`, because
            clipping the amplified gradient biases it. `ema_momentum` m becomes
            `m**(1 / ell)`.

    Raises:
        ValueError: If `ell` is not a finite number >= 0.5, or cannot be combined with another
            argument.

    Example:

    >>> inputs = keras.Input((4,))
    >>> model = keras_svag.SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    >>> model.compile(keras_svag.SVAG(learning_rate=0.1, ell=4), loss="mse", jit_compile=True)
    >>> history = model.fit(np.ones((64, 4)), np.ones((64, 1)), batch_size=2 * 8, verbose=0)
    >>> sorted(history.history)
    ['gradient_noise', 'gradient_signal', 'loss', 'noise_to_signal']
    """

    scaling_rule = staticmethod(_rules)

    def __init__(
        self,
        learning_rate: float | Callable = 0.01,
        ell: float = 1.0,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        name: str = "svag",
        **kwargs,
    ):
        super().__init__(
            learning_rate=as_float(learning_rate),
            momentum=as_float(momentum),
            nesterov=nesterov,
            weight_decay=as_float(weight_decay),
            name=name,
            **kwargs,
        )
        self._init_amplification(ell)
