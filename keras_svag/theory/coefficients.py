"""The two SVAG coefficients, and the length of a run under amplification."""

import math

from keras_svag._checks import finite_float, positive_int


def validate_ell(ell: float) -> float:
    """Returns `ell` as a float; raises a `ValueError` unless it is finite and >= 0.5."""
    return finite_float(
        "ell",
        ell,
        "a finite number >= 0.5 (1 is SGD, 0.5 is SGD at twice the batch size and learning rate, "
        "larger values approach the SDE)",
        minimum=0.5,
    )


def svag_coefficients(ell: float) -> tuple[float, float]:
    """Weights of the two half-batch gradients in an SVAG step.

    With `r1 = (1 + sqrt(2 ell - 1)) / 2` and `r2 = 1 - r1` the gradient `r1 g1 + r2 g2` of two
    independent mini-batches has the mean of one of them and `ell` times its covariance, since
    `r1 + r2 = 1` and `r1**2 + r2**2 = ell`
    ([Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470)).

    Args:
        ell: Amplification, a float >= 0.5. 1 is plain SGD, 0.5 is SGD on the whole batch.

    Returns:
        A tuple of floats `(r1, r2)`.

    Raises:
        ValueError: If `ell` is not a finite number >= 0.5.

    Example:

    >>> svag_coefficients(5)
    (2.0, -1.0)
    """
    ell = validate_ell(ell)
    r1 = (1.0 + math.sqrt(2.0 * ell - 1.0)) / 2.0
    return r1, 1.0 - r1


def svag_steps(sgd_steps: int, ell: float) -> int:
    """Number of SVAG steps that cover the continuous time of `sgd_steps` SGD steps.

    An SVAG step advances time by `eta / ell`: it takes `ell` times as many steps, rounded.

    Args:
        sgd_steps: Number of steps of the SGD run, an integer >= 0.
        ell: Amplification, a float >= 0.5.

    Returns:
        An int.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> svag_steps(100, 4)
    400
    """
    sgd_steps = positive_int("sgd_steps", sgd_steps, minimum=0)
    return round(_finite_product("sgd_steps", sgd_steps, validate_ell(ell)))


def svag_epochs(sgd_epochs: int, ell: float) -> int:
    """Number of epochs of `fit` in which SVAG trains as long as SGD.

    `ell` times the steps, each of which reads two batches: `2 ell` times the epochs, rounded up.

    Args:
        sgd_epochs: Number of epochs of the SGD run, an integer >= 0.
        ell: Amplification, a float >= 0.5.

    Returns:
        An int.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> svag_epochs(10, 4)
    80
    """
    sgd_epochs = positive_int("sgd_epochs", sgd_epochs, minimum=0)
    return math.ceil(_finite_product("sgd_epochs", sgd_epochs * 2.0, validate_ell(ell)))


def _finite_product(name: str, length: float, ell: float) -> float:
    product = length * ell
    if not math.isfinite(product):
        raise ValueError(
            f"`{name}` times `ell` must be finite. Received: ell={ell}. Use a smaller ell."
        )
    return product
