"""N and G from k gradients, all at once or one after another; for numbers, arrays and tensors.

With gradients `g_i` of independent batches of b examples and their mean m,
`N = sum |g_i - m|^2 / (k - 1)` and `G = |m|^2 - N / k` are unbiased (McCandlish et al. 2018, arXiv
1812.06162, appendix A.1, where k is the ratio of the two batch sizes). For k = 2 they are
`|g_1 - g_2|^2 / 2` and `<g_1, g_2>`. If batches differ in size, b is their harmonic mean.
"""


def estimate(spread, square, count):
    """Returns `(N, G)` from `sum |g_i - m|^2`, `|m|^2` and k."""
    noise = spread / (count - 1)
    return noise, square - noise / count


def extend(spread, square, position, half_distance, product):
    """Returns `sum |g_i - m|^2` and `|sum g_i|^2` with one more gradient g (Welford 1962)."""
    # `position` gradients came before, with mean m (0 if there are none): `half_distance` is
    # `|g - m|^2 / 2` and `product` is `<g, m>`.
    # The small number leaves all positions but 0 as they are, where the square is 0 anyway.
    mean_square = square / (position * position + 1e-30)
    norm = 2 * half_distance + 2 * product - mean_square  # |g|^2
    spread = spread + 2 * half_distance * position / (position + 1)
    return spread, square + 2 * position * product + norm
