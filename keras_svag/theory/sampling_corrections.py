"""Corrections of recorded N and G, whose meaning depends on how examples are drawn.

Derivations are in `docs/theory.md`.
"""

from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.theory.sampling_modes import SAMPLING_MODES, SHUFFLED_EPOCHS, WITHOUT_REPLACEMENT


def correct_signal(signal, noise, batch_size, num_examples, mode):
    """G without the bias that sampling gives it.

    Both halves of one shuffled epoch are drawn from the same deck, so their gradients are
    correlated by `-S^2/n` and `<g1, g2>` is low by that, which is `(B/n) N`. Independent halves
    need no correction. (With augmentation or dropout, N also holds noise that is drawn anew for
    each example; it causes no such correlation, so the corrected value is an upper bound.)

    For whatever is about `|g|^2` (the equilibrium identity), leave N and G as they were logged:
    `E |g|^2 = G + ell N` holds for those in every mode.

    Args:
        signal: mean of the logged `gradient_signal`; a number or an array.
        noise: mean of the logged `gradient_noise`, likewise.
        batch_size: B, the size of one half; its mean if the last batch of an epoch is short.
        num_examples: n, the size of the data set.
        mode: one of `SAMPLING_MODES`; plain `fit` is `"shuffled_epochs"`.
            In `"fixed_order"` nothing is random, so nothing is corrected: the result depends on
            the order and estimates nothing.

    Returns:
        `signal + (B/n) noise` for shuffled epochs, else `signal`.

    Raises:
        ValueError: if `mode` is not one of them, or the sizes are not positive or B > n.

    Example:

    >>> correct_signal(1.0, 4.0, batch_size=25, num_examples=100, mode="shuffled_epochs")
    2.0
    """
    share = _share_of_data(batch_size, num_examples, mode)
    return signal + share * noise if mode == SHUFFLED_EPOCHS else signal


def correct_noise(noise, batch_size, num_examples, mode):
    """N that the same gradients would have with batches drawn with replacement.

    With `S^2` the trace of the covariance of the examples' gradients (divisor n - 1), N is
    `(1 - 1/n) S^2/B` with replacement, `(1 - B/n) S^2/B` without, and `S^2/B` in shuffled epochs.
    Without augmentation and dropout the result can be compared between modes, and B times it
    between batch sizes.

    Args:
        noise: mean of the logged `gradient_noise`; a number or an array.
        batch_size: B, the size of one half; its mean if the last batch of an epoch is short.
        num_examples: n, the size of the data set.
        mode: one of `SAMPLING_MODES`; plain `fit` is `"shuffled_epochs"`.
            In `"fixed_order"` nothing is corrected, see `correct_signal`.

    Returns:
        A number or an array.

    Raises:
        ValueError: if `mode` is not one of them, the sizes are not positive or B > n, or halves
            without replacement hold all examples, so that there is no noise.

    Example:

    >>> correct_noise(1.0, batch_size=50, num_examples=100, mode="without_replacement")
    1.98
    """
    share = _share_of_data(batch_size, num_examples, mode)
    finite = 1 - 1 / num_examples
    if mode == WITHOUT_REPLACEMENT:
        if share == 1:
            raise ValueError(
                "`batch_size` must be less than `num_examples` with mode='without_replacement': "
                "a half that holds all examples has no noise to scale. "
                f"Received: batch_size={batch_size}, num_examples={num_examples}"
            )
        return noise * finite / (1 - share)
    return noise * finite if mode == SHUFFLED_EPOCHS else noise


def noise_and_signal_for_scaling(noise, signal, batch_size, num_examples, mode):
    """N and G that the bound of the linear scaling rule takes (`lsr_max_kappa`).

    The bound rests on `E |g|^2`. Batches from a finite deck have
    `E |g|^2 = |grad L|^2 - S^2/n + S^2/B`, in which only the last term falls with the batch size:
    it stands for N, the rest for G (`docs/theory_conditions.md`, 4.2). With replacement and under
    shuffled epochs these are just what is logged.

    Args:
        noise: mean of the logged `gradient_noise`; a number or an array.
        signal: mean of the logged `gradient_signal`, likewise.
        batch_size: B, the size of one half.
        num_examples: n, the size of the data set.
        mode: one of `SAMPLING_MODES`. In `"fixed_order"` nothing is random:
            the result means nothing.

    Returns:
        A tuple `(noise, signal)`.

    Raises:
        ValueError: as `correct_noise` does.

    Example:

    >>> noise_and_signal_for_scaling(1.0, 3.0, 50, 100, "without_replacement")
    (2.0, 2.0)
    """
    if mode != WITHOUT_REPLACEMENT:
        _share_of_data(batch_size, num_examples, mode)
        return noise, signal
    with_replacement = correct_noise(noise, batch_size, num_examples, mode)
    deck_noise = with_replacement / (1 - 1 / num_examples)
    return deck_noise, signal - batch_size / num_examples * deck_noise


def _share_of_data(batch_size, num_examples, mode):
    one_of("mode", mode, SAMPLING_MODES)
    num_examples = positive_int("num_examples", num_examples)
    size = finite_float("batch_size", batch_size, "a number > 0", 0.0, exclusive=True)
    share = size / num_examples
    # With replacement a batch may be larger than the data set.
    if share > 1 and mode in (SHUFFLED_EPOCHS, WITHOUT_REPLACEMENT):
        raise ValueError(
            f"`batch_size` must not exceed `num_examples` with mode={mode!r}. "
            f"Received: batch_size={batch_size}, num_examples={num_examples}"
        )
    return share
