"""The two SVAG coefficients and what amplification does to the length of a run.

Li, Malladi, Arora (NeurIPS 2021, arXiv 2102.12470), definition of SVAG: with `s = sqrt(2 l - 1)`
the two independent mini-batch losses are weighted by `(1 + s) / 2` and `(1 - s) / 2`.
"""

import math

from keras_svag._checks import finite_float, positive_int

MIN_ELL = 0.5


def validate_ell(ell):
    """Returns `ell` as a float, or raises a `ValueError` that says what is wrong with it."""
    return finite_float(
        "ell",
        ell,
        "a finite number >= 0.5 (1 is SGD, 1/2 is SGD at twice the batch size and learning rate, "
        "larger values approach the SDE)",
        minimum=MIN_ELL,
    )


def svag_coefficients(ell):
    """Weights of the two half-batch gradients in an SVAG step.

    With `r1 = (1 + sqrt(2 ell - 1)) / 2` and `r2 = 1 - r1` the gradient `r1 g1 + r2 g2` of two
    independent mini-batches has the mean of one of them and `ell` times its covariance, since
    `r1 + r2 = 1` and `r1**2 + r2**2 = ell`
    ([Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470)).

    Args:
        ell: Amplification, a float >= 0.5. 1 gives plain SGD, (1, 0); 0.5 gives the mean of both
            halves, (0.5, 0.5).

    Returns:
        A tuple `(r1, r2)` of Python floats.

    Raises:
        ValueError: if `ell` is not a finite number >= 0.5.

    Example:

    >>> svag_coefficients(1)
    (1.0, 0.0)
    >>> svag_coefficients(5)
    (2.0, -1.0)
    """
    ell = validate_ell(ell)
    r1 = (1.0 + math.sqrt(2.0 * ell - 1.0)) / 2.0
    return r1, 1.0 - r1


def svag_steps(sgd_steps, ell):
    """Number of SVAG steps that cover the continuous time of `sgd_steps` SGD steps.

    An SVAG step moves time by `eta / ell`, so the run is `ell` times as long (rounded to a whole
    step).

    Args:
        sgd_steps: Number of steps of the SGD run that is modelled, an integer >= 0.
        ell: Amplification, a float >= 0.5.

    Returns:
        An int.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> svag_steps(100, 4)
    400
    """
    sgd_steps = positive_int("sgd_steps", sgd_steps, minimum=0)
    return round(_times("sgd_steps", sgd_steps, validate_ell(ell)))


def svag_epochs(sgd_epochs, ell):
    """Number of epochs of `fit` that an SVAG run needs to train as long as an SGD run.

    `ell` times the steps, each of which reads two batches: `2 ell` times the epochs (rounded up).

    Args:
        sgd_epochs: Number of epochs of the SGD run that is modelled, an integer >= 0.
        ell: Amplification, a float >= 0.5.

    Returns:
        An int.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> svag_epochs(10, 4)
    80
    """
    sgd_epochs = positive_int("sgd_epochs", sgd_epochs, minimum=0)
    return math.ceil(_times("sgd_epochs", sgd_epochs * 2.0, validate_ell(ell)))


def _times(name, length, ell):
    product = length * ell
    if not math.isfinite(product):
        raise ValueError(
            f"`{name}` times `ell` must be a finite number. Received: ell={ell}. Use a smaller ell."
        )
    return product
