"""SVAG over stochastic gradient descent, with or without momentum."""

import keras

from keras_svag.optimizers.amplification import AmplificationMixin, as_float
from keras_svag.theory.scaling_rules import HEAVY_BALL_RULE, LINEAR_RULE


def _rules(optimizer):
    # Heavy ball does not tend to the linear rule as b -> 0: they keep different things.
    return (HEAVY_BALL_RULE, LINEAR_RULE) if optimizer.momentum else (LINEAR_RULE,)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAG(AmplificationMixin, keras.optimizers.SGD):
    """Stochastic variance amplified gradient: SGD whose noise is `ell` times as large.

    One step reads two independent batches of `B` examples and moves the weights by

    ```
    s  = sqrt(2 * ell - 1)
    g  = (1 + s) / 2 * g1 + (1 - s) / 2 * g2
    x -= learning_rate / ell * g
    ```

    `g` has the mean of an ordinary gradient and `ell` times its covariance, while the step is
    `ell` times shorter: noise per unit of time is what it was, and as `ell` grows the run tends to
    the stochastic differential equation `dX = -grad L dt + (eta Sigma)^(1/2) dW` of SGD. If curves
    at growing `ell` agree with those at `ell=1`, the SDE is a good model of the SGD run; if not,
    it is not. `ell=1` *is* SGD at batch size `B`; `ell=1/2` is SGD at `2 B` and
    `2 * learning_rate`.

    Not to be confused with the variance-*adapted* gradient (M-SVAG) of Balles and Hennig.

    Use it with `keras_svag.SVAGModel`, which differentiates both halves of a `2 B` batch in one
    step. With a plain `keras.Model` it pairs consecutive batches of `B`. What is not checked: that
    the two batches are independent (see `keras_svag.datasets.Sampler`) and of equal size.

    Kept beside the variables of SGD: `stored_gradient`, the first half of a pair that waits for
    its second, one per weight; and `ell` with what follows from it, so that `optimizer.ell` may be
    assigned between fits without compiling anew.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470).

    Args:
        learning_rate: A float, a `keras.optimizers.schedules.LearningRateSchedule`, or a callable:
            the learning rate *of the SGD run that is modelled*, never divided by `ell`. A schedule
            is evaluated at the effective step `floor(iterations / ell)`. Defaults to `0.01`.
        ell: Float >= 0.5, the amplification of the noise covariance. Training as long as the SGD
            run takes `ell` times the steps (`keras_svag.svag_steps`). Defaults to `1.0`.
        momentum: Float in [0, 1), b. With momentum the step is that of `learning_rate / ell**2`,
            momentum `1 - (1 - b) / ell` and `weight_decay * ell`, which keeps the SDE
            `dV = -(1-b) V dt - eta grad L dt + eta Sigma^(1/2) dW, dx = V dt`. Changing `ell`
            while there is velocity does not rescale it. Defaults to `0.0`.
        nesterov: Boolean, whether to use Nesterov momentum; its look-ahead vanishes as `ell`
            grows, so it tends to the same SDE. Defaults to `False`.
        weight_decay: Float or `None`, decoupled weight decay as in Keras
            (`x -= learning_rate / ell * weight_decay * x`, before the step). Defaults to `None`.
        **kwargs: The other arguments of `keras.optimizers.SGD`. Clipping is refused with
            `ell > 1`, since it would act on the amplified gradient and bias it;
            `gradient_accumulation_steps` is refused; `ema_momentum` m becomes
            `1 - (1 - m) / ell`.

    Raises:
        ValueError: if `ell` is not a finite number >= 0.5, or is combined with an option that
            does not go with it.

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
        learning_rate=0.01,
        ell=1.0,
        momentum=0.0,
        nesterov=False,
        weight_decay=None,
        name="svag",
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
