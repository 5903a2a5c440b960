"""The order of a weak error in 1/l, from noisy values that share one noisy reference."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

from keras_svag.theory.statistics.contrasts import IndependentSamples, PairedSamples, Ratio
from keras_svag.theory.statistics.intervals import Interval, validate_confidence


@dataclasses.dataclass(frozen=True)
class ErrorFit:
    """Weak errors `e(l) = a/l + b/l^2`, fitted to all l at once.

    Attributes:
        errors: dict from ell to the `Interval` of `e(l)`, measured minus reference.
        first: `Interval` of a.
        second: `Interval` of b.
        lack_of_fit: p-value of a further term c/l^3; NaN with fewer than three ells.
        order: `Interval` of `log(e(l)/e(l')) / log(l'/l)` for the two largest ells; without ends
            where e(l') may be zero.
    """

    errors: dict[float, Interval]
    first: Interval
    second: Interval
    lack_of_fit: float
    order: Interval


def fit_errors(
    values: Mapping[float, Sequence[float] | np.ndarray],
    reference: Sequence[float] | np.ndarray,
    paired: bool = False,
    confidence: float = 0.95,
) -> ErrorFit:
    """Fits the weak errors of SVAG(l) against a reference that stands for the SDE.

    All errors share the noise of the reference, so they are correlated: the fit is generalized
    least squares, with the SDE's value as a third unknown that the reference measures. Every ell
    counts, whether its error is significant or not.

    Args:
        values: dict from ell to one number per seed; at least two ells.
        reference: one number per seed.
        paired: whether equal positions belong to one seed in all of them. Defaults to `False`.
        confidence: of each interval, in (0, 1). Defaults to `0.95`.

    Returns:
        An `ErrorFit`.

    Raises:
        ValueError: if there are fewer than two ells or two seeds, or a number is not finite.

    Example:

    >>> values = {ell: [1 + 0.4 / ell, 1.02 + 0.4 / ell, 0.98 + 0.4 / ell] for ell in (1, 2, 4)}
    >>> fit = fit_errors(values, [1.0, 1.02, 0.98], paired=True)
    >>> round(fit.order.mean, 6), round(fit.first.mean, 6)
    (1.0, 0.4)
    """
    ells = np.array(sorted(values), float)
    rows = [np.asarray(values[ell], float) for ell in sorted(values)]
    rows.append(np.asarray(reference, float))
    sizes = [len(row) for row in rows]
    if len(ells) < 2 or min(sizes) < 2 or (paired and len(set(sizes)) > 1):
        raise ValueError(
            "`values` must have at least two ells with two seeds each, and `reference` two seeds; "
            f"paired, all as many. Received: numbers of seeds {sizes}"
        )
    if not all(math.isfinite(float(row.var())) for row in rows):
        raise ValueError(
            "`values` and `reference` must be finite numbers, and their variances too. "
            f"Received: values={dict(values)}, reference={list(reference)}. Leave out failed runs."
        )
    samples = PairedSamples(rows) if paired else IndependentSamples(rows)
    alpha = (1 - validate_confidence(confidence)) / 2
    unit = np.eye(len(rows))
    errors = unit[:-1] - unit[-1]
    precisions = _precisions(rows)
    fit = _estimators(ells, precisions, num_terms=2)
    return ErrorFit(
        {float(ell): samples.interval(row, alpha) for ell, row in zip(ells, errors, strict=True)},
        samples.interval(fit[1], alpha),
        samples.interval(fit[2], alpha),
        _p_value(samples, ells, precisions),
        _local_order(samples, errors[-2], errors[-1], ells[-1] / ells[-2], alpha),
    )


def _precisions(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Weights of the means, with one variance for all ells: few seeds do not tell them apart."""
    variances = [float(row.var(ddof=1)) for row in rows]
    pooled = [float(np.mean(variances[:-1]))] * (len(rows) - 1) + variances[-1:]
    # A variance of zero would have all the weight. Only ratios of the weights matter.
    floor = 1e-6 * max(pooled) or 1.0
    return np.array([len(row) * (floor / max(v, floor)) for row, v in zip(rows, pooled)])


def _estimators(ells: np.ndarray, precisions: np.ndarray, num_terms: int) -> np.ndarray:
    """Coefficients of the means in the least-squares estimates of `tau + a/l + b/l^2 + ...`."""
    inverse = np.append(1 / ells, 0.0)  # the reference is at 1/l = 0
    design = inverse[:, None] ** np.arange(num_terms + 1)
    root = np.sqrt(precisions / precisions.max())
    return np.linalg.pinv(design * root[:, None]) * root


def _p_value(
    samples: PairedSamples | IndependentSamples, ells: np.ndarray, precisions: np.ndarray
) -> float:
    if len(ells) < 3:
        return math.nan
    estimate, error, dof = samples.contrast(_estimators(ells, precisions, num_terms=3)[3])
    if not error > 0:
        return math.nan
    score = -abs(estimate) / error
    return float(2 * (special.ndtr(score) if math.isinf(dof) else special.stdtr(dof, score)))


def _local_order(
    samples: PairedSamples | IndependentSamples,
    small: np.ndarray,
    large: np.ndarray,
    factor: float,
    alpha: float,
) -> Interval:
    """Order from the ratio of two errors, by Fieller: they share the reference."""
    sign = 1.0 if samples.contrast(large)[0] >= 0 else -1.0
    ratio = Ratio(samples, sign * small, sign * large).interval(alpha)
    low, mean, high = (
        _log(value) / math.log(factor) for value in (ratio.ci_low, ratio.mean, ratio.ci_high)
    )
    return Interval(mean, low, high)


def _log(value: float) -> float:
    if math.isinf(value):
        return value
    return math.log(value) if value > 0 else -math.inf if value == 0 else math.nan
