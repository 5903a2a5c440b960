"""SVAG over RMSprop."""

import keras

from keras_svag.optimizers.amplification import AmplificationMixin, as_float
from keras_svag.theory.scaling_rules import RMSPROP_MOMENTUM_RULE, RMSPROP_RULE


def _rules(optimizer):
    return (RMSPROP_MOMENTUM_RULE if optimizer.momentum else RMSPROP_RULE,)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGRMSprop(AmplificationMixin, keras.optimizers.RMSprop):
    """RMSprop with amplified noise: SVAG for the SDE of RMSprop.

    The gradient of a step is `g = r1 g1 + r2 g2`, as in `keras_svag.SVAG`, and RMSprop runs with

    ```
    learning_rate / sqrt(ell),  1 - (1 - rho) / ell,  epsilon * ell,  weight_decay / sqrt(ell)
    ```

    or, with `momentum` b, `learning_rate / ell**1.5`, `1 - (1 - b) / ell` and
    `weight_decay * sqrt(ell)`. Epsilon is multiplied by `ell` and not its root, because Keras puts
    it inside the root. Keras starts the second moment at zero without correction: from cold, the
    first 1 / (1 - rho) effective steps are far too long at any `ell` and have no limit; warm it up
    with `learning_rate` small, or look at later times only.

    As `ell` grows it tends, with an error of order 1/ell, to the SDE of RMSprop, whose
    preconditioner is the gradient covariance alone; `ell=1` is RMSprop itself, which differs from
    it by O(G/N) in each coordinate. With `centered` the squared mean gradient that is subtracted
    does not grow with `ell`, so that the limit is the same.

    Reference: [Malladi et al., 2022](https://arxiv.org/abs/2205.10287).

    Args:
        learning_rate: A float, schedule or callable, of the RMSprop run that is modelled. A
            schedule is evaluated at the effective step. Defaults to `0.001`.
        ell: Float >= 0.5, the amplification of the noise covariance. Defaults to `1.0`.
        rho: Float in [0, 1). Defaults to `0.9`.
        momentum: Float in [0, 1). Defaults to `0.0`.
        epsilon: Float, inside the root. Defaults to `1e-7`.
        centered: Boolean. Defaults to `False`.
        weight_decay: Float or `None`, decoupled. Defaults to `None`.
        **kwargs: The other arguments of `keras.optimizers.RMSprop`. Clipping is refused with
            `ell > 1`, `gradient_accumulation_steps` always.

    Raises:
        ValueError: as for `SVAGAdam`.

    Example:

    >>> SVAGRMSprop(learning_rate=1e-3, ell=4).ell
    4.0
    """

    scaling_rule = staticmethod(_rules)

    def __init__(
        self,
        learning_rate=0.001,
        ell=1.0,
        rho=0.9,
        momentum=0.0,
        epsilon=1e-7,
        centered=False,
        weight_decay=None,
        name="svag_rmsprop",
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
