"""SVAG over Adam and AdamW."""

import keras

from keras_svag.optimizers.amplification import AmplificationMixin, as_float
from keras_svag.theory.scaling_rules import ADAM_RULE


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGAdam(AmplificationMixin, keras.optimizers.Adam):
    """Adam with amplified noise: SVAG for the SDE of Adam.

    The gradient of a step is `g = r1 g1 + r2 g2`, as in `keras_svag.SVAG`, and Adam runs with the
    hyperparameters that the square-root rule of Malladi, Lyu, Panigrahi and Arora gives for
    kappa = 1/ell:

    ```
    learning_rate / sqrt(ell),   1 - (1 - beta_1) / ell,   1 - (1 - beta_2) / ell,
    epsilon * sqrt(ell),         weight_decay / sqrt(ell)
    ```

    As `ell` grows it tends, with an error of order 1/ell (seen from about `ell = 16`), to the SDE
    of Adam, whose preconditioner is the gradient covariance alone. `ell=1` is Adam itself, whose
    second moment also holds the squared mean gradient: the two differ by O(G/N) in each
    coordinate even where the method is right. So it is the noise-dominated regime that can be
    tested. With `amsgrad` the maximum of the second moment is scaled like the moment itself.

    Reference: [Malladi et al., 2022](https://arxiv.org/abs/2205.10287).

    Args:
        learning_rate: A float, schedule or callable, of the Adam run that is modelled. A schedule
            is evaluated at the effective step `floor(iterations / ell)`. Defaults to `0.001`.
        ell: Float >= 0.5, the amplification of the noise covariance (the paper's scale squared).
            Defaults to `1.0`.
        beta_1: Float in [0, 1). 0 stays 0. Defaults to `0.9`.
        beta_2: Float in [0, 1). Defaults to `0.999`.
        epsilon: Float. Defaults to `1e-7`.
        amsgrad: Boolean. Defaults to `False`.
        weight_decay: Float or `None`, decoupled. Defaults to `None`.
        **kwargs: The other arguments of `keras.optimizers.Adam`. Clipping is refused with
            `ell > 1`, `gradient_accumulation_steps` always.

    Raises:
        ValueError: if `ell` is not a finite number >= 0.5, does not go with another option, or is
            so small that `1 - (1 - beta) / ell` would not be positive (`ell=0.5` needs betas
            above 0.5).

    Example:

    >>> SVAGAdam(learning_rate=1e-3, ell=4).ell
    4.0
    """

    scaling_rule = ADAM_RULE

    def __init__(
        self,
        learning_rate=0.001,
        ell=1.0,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        weight_decay=None,
        name="svag_adam",
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
    """AdamW with amplified noise: `SVAGAdam` with decoupled weight decay on by default.

    Reference: [Malladi et al., 2022](https://arxiv.org/abs/2205.10287).

    Args:
        learning_rate: As for `SVAGAdam`. Defaults to `0.001`.
        ell: As for `SVAGAdam`. Defaults to `1.0`.
        weight_decay: Float, decoupled: the run decays by `learning_rate * weight_decay` for each
            effective step. Defaults to `0.004`.
        beta_1: As for `SVAGAdam`. Defaults to `0.9`.
        beta_2: As for `SVAGAdam`. Defaults to `0.999`.
        epsilon: As for `SVAGAdam`. Defaults to `1e-7`.
        amsgrad: As for `SVAGAdam`. Defaults to `False`.
        **kwargs: The other arguments of `keras.optimizers.AdamW`.

    Raises:
        ValueError: as for `SVAGAdam`.

    Example:

    >>> SVAGAdamW(learning_rate=1e-3, ell=4).weight_decay
    0.004
    """

    scaling_rule = ADAM_RULE

    def __init__(
        self,
        learning_rate=0.001,
        ell=1.0,
        weight_decay=0.004,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-7,
        amsgrad=False,
        name="svag_adamw",
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
