"""Corrections of logged N and G for how examples are drawn; `docs/theory.md` derives them."""

from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.theory.quantities import Value
from keras_svag.theory.sampling_modes import SAMPLING_MODES, SHUFFLED_EPOCHS, WITHOUT_REPLACEMENT


def correct_signal(
    signal: Value, noise: Value, batch_size: float, num_examples: int, mode: str
) -> Value:
    """Removes the bias that sampling gives to G.

    The halves of one shuffled epoch have no example in common, so `<g1, g2>` is low by `(B/n) N`.
    With augmentation or dropout the corrected value is an upper bound. Leave N and G as logged in
    identities of `|g|^2`: `E |g|^2 = G + ell N` holds in every mode.

    Args:
        signal: Mean of the logged `gradient_signal`, a float or an array of any shape.
        noise: Mean of the logged `gradient_noise`, of the same shape.
        batch_size: B, the size of one half; its mean if the last batch of an epoch is short.
        num_examples: n, the size of the data set.
        mode: One of `SAMPLING_MODES`; plain `fit` is `"shuffled_epochs"`.

    Returns:
        `signal + (B/n) noise` in shuffled epochs, else `signal`.

    Raises:
        ValueError: If `mode` or a size is out of range.

    Example:

    >>> correct_signal(1.0, 4.0, batch_size=25, num_examples=100, mode="shuffled_epochs")
    2.0
    """
    fraction = _fraction_of_data(batch_size, num_examples, mode)
    return signal + fraction * noise if mode == SHUFFLED_EPOCHS else signal


def correct_noise(noise: Value, batch_size: float, num_examples: int, mode: str) -> Value:
    """Converts N to that of batches drawn with replacement.

    With `S^2` the trace of the covariance of the examples' gradients (divisor n - 1), N is
    `(1 - 1/n) S^2/B` with replacement, `(1 - B/n) S^2/B` without, and `S^2/B` in shuffled epochs.
    Without augmentation and dropout the result can be compared between modes, and B times it
    between batch sizes.

    Args:
        noise: Mean of the logged `gradient_noise`, a float or an array of any shape.
        batch_size: B, the size of one half; its mean if the last batch of an epoch is short.
        num_examples: n, the size of the data set.
        mode: One of `SAMPLING_MODES`.

    Returns:
        A float or an array, like `noise`.

    Raises:
        ValueError: If `mode` or a size is out of range, or a half holds all examples.

    Example:

    >>> correct_noise(1.0, batch_size=50, num_examples=100, mode="without_replacement")
    1.98
    """
    fraction = _fraction_of_data(batch_size, num_examples, mode)
    finite = 1 - 1 / num_examples
    if mode == WITHOUT_REPLACEMENT:
        if fraction == 1:
            raise ValueError(
                "`batch_size` must be less than `num_examples` with mode='without_replacement': "
                "a half that holds all examples has no noise. "
                f"Received: batch_size={batch_size}, num_examples={num_examples}"
            )
        return noise * finite / (1 - fraction)
    return noise * finite if mode == SHUFFLED_EPOCHS else noise


def noise_and_signal_for_scaling(
    noise: Value, signal: Value, batch_size: float, num_examples: int, mode: str
) -> tuple[Value, Value]:
    """Converts logged N and G to those of the linear scaling bound (`lsr_max_kappa`).

    The bound rests on `E |g|^2 = |grad L|^2 - S^2/n + S^2/B`: N is the last term, which falls with
    the batch size, and G the rest (`docs/theory_conditions.md`, 4.2). N and G are as logged, except
    without replacement.

    Args:
        noise: Mean of the logged `gradient_noise`, a float or an array of any shape.
        signal: Mean of the logged `gradient_signal`, of the same shape.
        batch_size: B, the size of one half.
        num_examples: n, the size of the data set.
        mode: One of `SAMPLING_MODES`.

    Returns:
        A tuple `(noise, signal)`.

    Raises:
        ValueError: As for `correct_noise`.

    Example:

    >>> noise_and_signal_for_scaling(1.0, 3.0, 50, 100, "without_replacement")
    (2.0, 2.0)
    """
    if mode != WITHOUT_REPLACEMENT:
        _fraction_of_data(batch_size, num_examples, mode)
        return noise, signal
    with_replacement = correct_noise(noise, batch_size, num_examples, mode)
    finite_noise = with_replacement / (1 - 1 / num_examples)
    return finite_noise, signal - batch_size / num_examples * finite_noise


def _fraction_of_data(batch_size: float, num_examples: int, mode: str) -> float:
    one_of("mode", mode, SAMPLING_MODES)
    num_examples = positive_int("num_examples", num_examples)
    size = finite_float("batch_size", batch_size, "a number > 0", 0.0, exclusive=True)
    fraction = size / num_examples
    # With replacement a batch may be larger than the data set.
    if fraction > 1 and mode in (SHUFFLED_EPOCHS, WITHOUT_REPLACEMENT):
        raise ValueError(
            f"`batch_size` must not exceed `num_examples` with mode={mode!r}. "
            f"Received: batch_size={batch_size}, num_examples={num_examples}"
        )
    return fraction
