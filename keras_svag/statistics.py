"""Statistics of recorded N, G and R: standard errors, sampling, equilibrium (NumPy only).

N is the gradient noise, G the gradient signal, R the squared weight norm. Rows are dicts as studies
record them or as `fit` returns them; nothing here touches a model.

Derivations are in `docs/theory.md`. The estimate of standard errors is the Gamma method of Wolff
(Comput. Phys. Commun. 156, 2004, arXiv hep-lat/0306017); the relation of gradients and weights is
Yaida's (arXiv 1810.00004).
"""

import dataclasses
import math

import numpy as np

from keras_svag._checks import as_floats, finite_float, one_of, positive_int
from keras_svag.coefficients import validate_ell
from keras_svag.datasets.sampling import SAMPLING_MODES, SHUFFLED_EPOCHS, WITHOUT_REPLACEMENT
from keras_svag.validity import CONFIDENCE, Interval, ratio_of_means, t_interval

AUTOCOVARIANCE, BATCH_MEANS = "autocovariance", "batch_means"
NOISE, SIGNAL, WEIGHT_NORM = "gradient_noise", "gradient_signal", "weight_norm"

# Batch means are cut this many correlation times long, and not more than this many of them.
_TIMES_PER_BATCH = 10
_MAX_BATCHES = 20
# Wolff's S: the assumed ratio of the slowest decay to the correlation time.
_WINDOW_FACTOR = 1.5
# Of the polynomial that noise is told from drift by: a short series would be taken for a curve.
_TREND_DEGREE, _VALUES_PER_DEGREE = 3, 12
_TOLERANCE = 0.1


# What the estimates mean: sampling.


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
        mode: one of `keras_svag.datasets.SAMPLING_MODES`; plain `fit` is `"shuffled_epochs"`.
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
        mode: one of `keras_svag.datasets.SAMPLING_MODES`; plain `fit` is `"shuffled_epochs"`.
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
    """N and G that the bound of the linear scaling rule takes (`validity.lsr_max_kappa`).

    The bound rests on `E |g|^2`. Batches from a finite deck have
    `E |g|^2 = |grad L|^2 - S^2/n + S^2/B`, in which only the last term falls with the batch size:
    it stands for N, the rest for G (`docs/theory_conditions.md`, 4.2). With replacement and under
    shuffled epochs these are just what is logged.

    Args:
        noise: mean of the logged `gradient_noise`; a number or an array.
        signal: mean of the logged `gradient_signal`, likewise.
        batch_size: B, the size of one half.
        num_examples: n, the size of the data set.
        mode: one of `keras_svag.datasets.SAMPLING_MODES`. In `"fixed_order"` nothing is random:
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


# Means of correlated series.


@dataclasses.dataclass(frozen=True)
class SeriesMean:
    """Mean of a correlated series.

    Attributes:
        mean: the mean.
        standard_error: its standard error; `inf` with fewer than two values.
        degrees_of_freedom: of the standard error.
        correlation_time: number of values that are worth one independent value, >= 1.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float
    correlation_time: float

    def interval(self, confidence=CONFIDENCE):
        """The t interval, an `Interval`."""
        return t_interval(self.mean, self.standard_error, self.degrees_of_freedom, confidence)


def series_mean(values, weights=None, method=AUTOCOVARIANCE):
    """Mean of a series whose successive values are correlated, with its standard error.

    Assumed: the series is stationary (see `relative_drift`); its correlations decay, and it is
    some ten correlation times long or longer (with five of them, 95 % intervals cover about 93 %);
    the variance of a value is inverse to its weight. Negative correlation is not credited: the
    standard error is never below that of independent values.

    Args:
        values: numbers in order of time. Values that are not finite are left out.
        weights: positive weights, such as the number of steps that a value is the mean of.
            Defaults to equal weights.
        method: `"autocovariance"`: sum of autocovariances up to a window that balances bias and
            noise. `"batch_means"`: spread of the means of up to 20 stretches, each of at least ten
            correlation times (as the first method finds them). Defaults to `"autocovariance"`.

    Returns:
        A `SeriesMean`.

    Raises:
        ValueError: if the lengths differ, a weight is not positive, or `method` is unknown.

    Example:

    >>> series_mean([1.0, 3.0, 1.0, 3.0]).mean
    2.0
    """
    one_of("method", method, (AUTOCOVARIANCE, BATCH_MEANS))
    values, weights = _clean(values, weights)
    count = len(values)
    if count < 2:
        mean = float(values[0]) if count else math.nan
        return SeriesMean(mean, math.inf, 1.0, 1.0)
    mean = float(np.average(values, weights=weights))
    deviations = _equalize(values - mean, weights)
    variance, freedom, time = _long_run_variance(deviations, num_fitted=1)
    if method == BATCH_MEANS:
        means, totals = _batch_means(values, weights, _number_of_batches(count, time))
        freedom = len(means) - 1
        # Batches of unequal weight: the least-squares estimate of the variance.
        squares = totals * (means - mean) ** 2
        return SeriesMean(
            mean, math.sqrt(squares.sum() / totals.sum() / freedom), float(freedom), time
        )
    return SeriesMean(mean, math.sqrt(variance / count), freedom, time)


def _clean(values, weights):
    # As floats: JSON has None for what is not finite.
    values = np.asarray(values, float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    if values.shape != weights.shape or values.ndim != 1:
        raise ValueError(
            "`values` and `weights` must be lists of the same length. Received: values of shape "
            f"{values.shape}, weights of shape {weights.shape}"
        )
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"`weights` must be positive. Received: weights={weights}")
    finite = np.isfinite(values)
    return values[finite], weights[finite]


def _equalize(deviations, weights):
    """Deviations scaled so that all have the variance of one with the mean weight."""
    return deviations * np.sqrt(weights / weights.mean())


def _long_run_variance(deviations, num_fitted):
    """`sum over all lags of the autocovariance`, by Wolff's automatic window.

    Args:
        deviations: what is left of a series after fitting `num_fitted` smooth components.
        num_fitted: 1 for the mean, 2 for a straight line, and so on.

    Returns:
        A tuple: the variance, its degrees of freedom, and the correlation time.
    """
    count = len(deviations)
    covariances = _autocovariances(deviations)
    window = _window(covariances, count)
    total = covariances[0] + 2 * covariances[1 : window + 1].sum()
    if total <= covariances[0]:
        window, total = 0, covariances[0]
    time = total / covariances[0] if covariances[0] > 0 else 1.0
    width = 2 * window + 1
    # Each fitted component takes one independent value out of the deviations.
    correction = 1 + num_fitted * width / count if window else count / max(count - num_fitted, 1)
    freedom = max(count / width - num_fitted, 1.0)
    return float(total * correction), float(freedom), float(time)


def _autocovariances(deviations):
    count = len(deviations)
    length = 1 << (2 * count - 1).bit_length()  # no wrap-around
    spectrum = np.abs(np.fft.rfft(deviations, length)) ** 2
    return np.fft.irfft(spectrum, length)[:count] / count


def _window(covariances, count):
    """The first lag at which truncation costs less than the noise of what would be added."""
    if covariances[0] <= 0:
        return 0
    time = 0.5
    for lag in range(1, count // 2):
        time += covariances[lag] / covariances[0]
        decay = _WINDOW_FACTOR / math.log((2 * time + 1) / (2 * time - 1)) if time > 0.5 else 1e-9
        if math.exp(-lag / decay) < decay / math.sqrt(lag * count):
            return lag
    return max(count // 2 - 1, 0)


def _number_of_batches(count, time):
    return int(np.clip(count / (_TIMES_PER_BATCH * time), 2, _MAX_BATCHES))


def _batch_means(values, weights, number):
    """Means and total weights of `number` stretches of as equal length as can be."""
    parts = zip(np.array_split(values, number), np.array_split(weights, number))
    means, totals = zip(*((np.average(v, weights=w), w.sum()) for v, w in parts))
    return np.array(means), np.array(totals)


class RunningMeans:
    """Running means of several quantities of one run, with standard errors.

    Rows are added as they come and kept as means of blocks; when there are too many blocks,
    neighbours are merged, so memory stays bounded however long the run. Standard errors take the
    correlation between blocks into account; for what is assumed see `series_mean`.

    Args:
        names: the quantities. Defaults to `("gradient_noise", "gradient_signal")`.
        rows_per_block: rows that belong together; no block is ever cut inside them. Where rows are
            steps and epochs are shuffled, the steps of an epoch: they depend on each other, epochs
            do not. Defaults to `1`.
        max_blocks: an even number >= 8, how many blocks are kept. Defaults to `512`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> history = {"gradient_noise": [2.0, 4.0, 3.0], "gradient_signal": [1.0, 1.0, 1.0]}
    >>> means = RunningMeans.from_rows(history)
    >>> means.estimate("gradient_noise").mean
    3.0
    """

    def __init__(self, names=(NOISE, SIGNAL), rows_per_block=1, max_blocks=512):
        self.names = tuple(names)
        self._max_blocks = positive_int("max_blocks", max_blocks, minimum=8)
        if max_blocks % 2:
            raise ValueError(
                "`max_blocks` must be even, since blocks are merged in pairs. "
                f"Received: max_blocks={max_blocks}"
            )
        self._rows_per_block = positive_int("rows_per_block", rows_per_block)
        self._rows_in_open_block = 0
        self._blocks = []  # of each, the sums of weight and of weight times value

    @classmethod
    def from_rows(cls, rows, names=(NOISE, SIGNAL), start=0, rows_per_block=1):
        """Means over recorded rows.

        Args:
            rows: list of dicts, such as the rows of a run's `metrics.jsonl`, or a dict of lists,
                such as `fit(...).history`. A row that has `"step"` counts for the steps since the
                row before it; else every row counts alike.
            names: the quantities.
            start: the step at which the first row begins. Defaults to `0`.
            rows_per_block: see the class.

        Returns:
            A `RunningMeans`.

        Raises:
            ValueError: if steps do not increase from `start`.
        """
        rows = _as_rows(rows)
        means = cls(names, rows_per_block)
        for row, weight in zip(rows, _row_lengths(rows, start)):
            means.add(row, weight)
        return means

    def add(self, row, weight=1.0):
        """Adds a row. One in which a quantity is missing or not finite is left out as a whole.

        Args:
            row: dict with at least the quantities of `names`.
            weight: positive weight, such as the number of steps. Defaults to `1.0`.

        Raises:
            ValueError: if `weight` is not positive.
        """
        weight = finite_float("weight", weight, "a number > 0", 0.0, exclusive=True)
        values = np.array([row.get(name) for name in self.names], float)
        entry = weight * np.array([1.0, *values])
        if not np.isfinite(entry).all():
            # Still a row of its block, so that blocks go on to end where epochs do.
            entry = np.zeros(len(entry))
        if self._rows_in_open_block:
            self._blocks[-1] = self._blocks[-1] + entry
        else:
            self._blocks.append(entry)
        self._rows_in_open_block = (self._rows_in_open_block + 1) % self._rows_per_block
        if len(self._blocks) == self._max_blocks and not self._rows_in_open_block:
            self._merge_blocks()

    def _merge_blocks(self):
        pairs = np.array(self._blocks).reshape(len(self._blocks) // 2, 2, -1)
        self._blocks = list(pairs.sum(axis=1))
        self._rows_per_block *= 2

    def series(self, name):
        """Means of the blocks, in order of time.

        Args:
            name: one of `names`.

        Returns:
            A tuple `(values, weights)` of arrays.

        Raises:
            ValueError: if `name` is not one of `names`.
        """
        column = 1 + self.names.index(one_of("name", name, self.names))
        blocks = np.array([block for block in self._blocks if block[0] > 0])
        if not len(blocks):
            return np.empty(0), np.empty(0)
        return blocks[:, column] / blocks[:, 0], blocks[:, 0]

    def estimate(self, name, method=AUTOCOVARIANCE):
        """Mean of a quantity with its standard error.

        Args:
            name: one of `names`.
            method: see `series_mean`.

        Returns:
            A `SeriesMean`.
        """
        return series_mean(*self.series(name), method=method)

    def batches(self, *names):
        """Means over up to 20 stretches that are long enough to pass for independent.

        They can stand where a function asks for one number per seed. That is less than seeds: a
        single run tells nothing of the spread between runs.

        Args:
            *names: some of `names`.

        Returns:
            A list with one array per name; the stretches are the same for all of them.
        """
        series = [self.series(name) for name in names]
        count = len(series[0][0])
        if count < 2:
            return [values for values, _ in series]
        longest = max(series_mean(*pair).correlation_time for pair in series)
        number = _number_of_batches(count, longest)
        return [_batch_means(*pair, number)[0] for pair in series]

    def ratio(self, numerator=NOISE, denominator=SIGNAL, confidence=CONFIDENCE):
        """Ratio of two means by Fieller's theorem on `batches`; N/G by default.

        Args:
            numerator: one of `names`.
            denominator: one of `names`.
            confidence: Float in (0, 1). Defaults to `0.95`.

        Returns:
            An `Interval`; its upper end is infinite where the denominator's reaches zero.
        """
        top, bottom = self.batches(numerator, denominator)
        if not len(top):
            return Interval(math.nan, -math.inf, math.inf)
        return ratio_of_means(top, bottom, confidence)


def _as_rows(rows):
    if isinstance(rows, dict):
        return [dict(zip(rows, values)) for values in zip(*rows.values())]
    return list(rows)


def _row_lengths(rows, start):
    """Steps of each row, or 1 for each where rows do not tell."""
    if not all("step" in row for row in rows):
        return np.ones(len(rows))
    lengths = np.diff([start, *(row["step"] for row in rows)])
    if (lengths <= 0).any():
        raise ValueError(
            "`rows` must be in order, their `step` increasing from `start`. Received: "
            f"start={start}, steps={[row['step'] for row in rows]}"
        )
    return lengths


# Equilibrium.


def relative_drift(values, weights=None, confidence=CONFIDENCE):
    """Change of a quantity over a series, as a fraction of its mean.

    The slope of the least-squares line times the length of the series, over the mean. The
    standard error allows for correlated noise (see `series_mean`), noise being what a polynomial
    leaves (of degree 3 from 36 values on, else 2 or 1); the ratio is Fieller's, so that a mean that
    may be zero gives no ends.

    Args:
        values: numbers in order of time. Values that are not finite are left out.
        weights: positive weights, the lengths of time. Defaults to equal weights.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval`; without ends where there are fewer than four values.

    Raises:
        ValueError: if the lengths differ or a weight is not positive.

    Example:

    >>> relative_drift([1.0, 2.0, 3.0, 4.0]).mean  # 4 units of time at 1 a unit, mean 2.5
    1.6
    """
    values, weights = _clean(values, weights)
    count = len(values)
    if count < 4:
        return Interval(math.nan, -math.inf, math.inf)
    weights = weights / weights.mean()
    times = np.cumsum(weights) - weights / 2
    times = times - np.average(times, weights=weights)
    mean = np.average(values, weights=weights)
    spread = np.sum(weights * times**2)
    slope = np.sum(weights * times * values) / spread
    # What a curve leaves is noise; what the line leaves would count a bend as noise too.
    degree = int(np.clip(count // _VALUES_PER_DEGREE, 1, _TREND_DEGREE))
    curve = np.polynomial.Polynomial.fit(times, values, degree, w=np.sqrt(weights))
    residuals = _equalize(values - curve(times), weights)
    variance, freedom, _ = _long_run_variance(residuals, num_fitted=degree + 1)
    t = t_interval(0.0, 1.0, freedom, confidence).ci_high
    # The line's slope and mean are uncorrelated.
    return _ratio_of_uncorrelated(
        slope * count, mean, t**2 * variance * count**2 / spread, t**2 * variance / count
    )


def _ratio_of_uncorrelated(top, bottom, top_square, bottom_square):
    """`{rho : (top - rho bottom)^2 <= top_square + rho^2 bottom_square}`, of either sign."""
    ratio = float(top / bottom) if bottom else math.nan
    quadratic = bottom**2 - bottom_square
    if quadratic <= 0:
        return Interval(ratio, -math.inf, math.inf)
    root = math.sqrt(max((top * bottom) ** 2 - quadratic * (top**2 - top_square), 0.0))
    return Interval(
        ratio, float((top * bottom - root) / quadratic), float((top * bottom + root) / quadratic)
    )


def equilibrium_weight_norm(noise, signal, learning_rate, weight_decay, ell=1.0):
    """R that noise and signal keep up against weight decay, if the loss is scale invariant.

    `(2 lambda - eta lambda^2/ell) R = eta (G/ell + N)`, in equilibrium and with momentum 0.

    Args:
        noise: N, as logged; a number or an array.
        signal: G, as logged, likewise.
        learning_rate: eta, of the SGD run that is modelled.
        weight_decay: lambda > 0; twice the factor of a Keras `L2` regulariser.
        ell: amplification; `math.inf` for the SDE, whose R is `eta N / (2 lambda)`. Defaults to
            `1.0`.

    Returns:
        A number or an array.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> round(equilibrium_weight_norm(4.0, 2.0, 0.1, 5e-3, ell=math.inf), 9)
    40.0
    """
    eta = finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)
    decay = finite_float("weight_decay", weight_decay, "a number > 0", 0.0, exclusive=True)
    ell = ell if ell == math.inf else validate_ell(ell)
    contraction = decay * (2 - eta * decay / ell)
    if not contraction > 0:
        raise ValueError(
            "`learning_rate * weight_decay / ell` must be below 2: weight decay alone would make "
            f"the weights grow. Received: learning_rate={eta}, weight_decay={decay}, ell={ell}"
        )
    return eta * (signal / ell + noise) / contraction


def weight_norm_imbalance(
    weight_norm,
    noise,
    signal,
    steps,
    learning_rate,
    weight_decay,
    ell=1.0,
    radial_gradient=0.0,
    confidence=CONFIDENCE,
):
    """How far the change of R is from what N, G and weight decay account for.

    One step with Keras' weight decay is `x' = (1 - h lambda) x - h g` with `h = eta/ell`, so

    `E R' = (1 - h lambda)^2 R + h^2 (G + ell N) - 2 h (1 - h lambda) <x, grad L>`,

    where the last term is zero if the loss is scale invariant. This is summed over stretches of
    a run, in equilibrium or not: drift is on both sides. An imbalance means that the loss is not
    scale invariant (or that momentum, clipping, another weight decay, or weights without decay are
    at work). What remains at random is a sum of martingale differences, uncorrelated from stretch
    to stretch, so the interval is Student's over stretches.

    Args:
        weight_norm: R at the ends of m stretches: m + 1 numbers.
        noise: N, mean over each of the m stretches, as logged (no correction for sampling).
        signal: G, likewise.
        steps: number of steps of each stretch. They should be short against `ell/(2 eta lambda)`
            steps, since N and G are taken as constant over a stretch.
        learning_rate: eta, of the SGD run that is modelled; a number or one for each stretch.
        weight_decay: lambda >= 0; twice the factor of a Keras `L2` regulariser.
        ell: amplification. A step of plain SGD on the whole batch of 2B examples at learning rate
            h is `ell=0.5, learning_rate=h/2`. Defaults to `1.0`.
        radial_gradient: `<x, grad L>`, a number or the mean over each stretch; see
            `keras_svag.noise.radial_gradient`. Defaults to `0.0`, what scale invariance gives.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the imbalance, as a fraction of what the gradients add to R: about
        `-2 <x, grad L> / (h (G + ell N))` where the loss is not scale invariant and
        `radial_gradient` was left at zero.

    Raises:
        ValueError: if lengths do not fit or a hyperparameter is out of range.
    """
    norm = as_floats("weight_norm", weight_norm)
    if norm.ndim != 1 or not len(norm):
        raise ValueError(
            "`weight_norm` must be a list of numbers, one more than there are stretches. "
            f"Received: weight_norm of shape {norm.shape}"
        )
    count = len(norm) - 1
    noise, signal, steps, eta, radial = (
        _per_stretch(name, value, count)
        for name, value in [
            ("noise", noise),
            ("signal", signal),
            ("steps", steps),
            ("learning_rate", learning_rate),
            ("radial_gradient", radial_gradient),
        ]
    )
    ell = validate_ell(ell)
    decay = finite_float("weight_decay", weight_decay, ">= 0", 0.0)
    step = eta / ell
    if not (0 < step * max(decay, 1e-30)).all() or not (step * decay < 1).all():
        raise ValueError(
            "`learning_rate` must be positive and `learning_rate * weight_decay / ell` below 1. "
            f"Received: learning_rate={learning_rate}, weight_decay={weight_decay}, ell={ell}"
        )
    log_shrink = 2 * np.log1p(-step * decay)  # of R, in one step
    one_minus_shrink = step * decay * (2 - step * decay)
    with np.errstate(invalid="ignore"):
        # Sum of shrink^j over the steps of a stretch.
        total = np.where(decay, -np.expm1(log_shrink * steps) / one_minus_shrink, steps)
    gain = step**2 * (signal + ell * noise) * total
    radial_gain = 2 * step * (1 - step * decay) * radial * total
    excess = norm[1:] - np.exp(log_shrink * steps) * norm[:-1] - gain + radial_gain
    return _ratio_of_sums(excess, gain, confidence)


def _per_stretch(name, value, count):
    value = as_floats(name, value)
    if value.shape not in ((), (count,)):
        raise ValueError(
            f"`{name}` must be a number or one for each of the {count} stretches between the "
            f"{count + 1} values of `weight_norm`. Received: {name} of shape {value.shape}"
        )
    return np.broadcast_to(value, (count,))


def _ratio_of_sums(top, bottom, confidence):
    count, total = len(top), bottom.sum()
    ratio = float(top.sum() / total) if total > 0 else math.nan
    if count < 2 or not total > 0:
        return Interval(ratio, -math.inf, math.inf)
    # The sum of `bottom` is known far better than that of `top`: the delta method does.
    variance = count / (count - 1) * np.sum((top - ratio * bottom) ** 2)
    return t_interval(ratio, math.sqrt(variance) / total, count - 1, confidence)


def with_weight_decay(radial_gradient, signal, weight_norm, weight_decay):
    """Turns `<x, grad L>` and G of the loss into those of the loss with its weight decay.

    Args:
        radial_gradient: `<x, grad L>` of the loss alone.
        signal: G of the loss alone, corrected for sampling.
        weight_norm: R.
        weight_decay: lambda.

    Returns:
        A tuple: `<x, grad L + lambda x>` and `|grad L + lambda x|^2`.

    Example:

    >>> with_weight_decay(1.0, 2.0, 10.0, 0.5)
    (6.0, 5.5)
    """
    total_signal = signal + 2 * weight_decay * radial_gradient + weight_decay**2 * weight_norm
    return radial_gradient + weight_decay * weight_norm, total_signal


def yaida_ratio(radial_gradient, noise, signal, learning_rate, ell=1.0, confidence=CONFIDENCE):
    """Yaida's relation `<x, grad L> = (eta/2) E |g|^2` as a ratio that is 1 in equilibrium.

    It holds for any loss, scale invariant or not, where R is stationary; gradients are of the loss
    with its weight decay (`with_weight_decay`), momentum is 0. Under amplification the right-hand
    side is `(eta/2) (G/ell + N)`. A ratio away from 1 is drift of R, which the relation cannot
    tell from anything else: `weight_norm_imbalance` can.

    Args:
        radial_gradient: `<x, grad L>` with decay: one number per seed, or per batch of a long run.
        noise: N of the same runs.
        signal: G with decay of the same runs.
        learning_rate: eta, of the SGD run that is modelled.
        ell: amplification. Defaults to `1.0`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `Interval` around the ratio of the left-hand side to the right-hand side.

    Raises:
        ValueError: if a hyperparameter is out of range.

    Example:

    >>> yaida_ratio([1.0, 1.0], noise=[3.0, 3.0], signal=[1.0, 1.0], learning_rate=0.5).mean
    1.0
    """
    eta = finite_float("learning_rate", learning_rate, "a number > 0", 0.0, exclusive=True)
    right = eta / 2 * (np.asarray(signal, float) / validate_ell(ell) + np.asarray(noise, float))
    return ratio_of_means(radial_gradient, right, confidence)


@dataclasses.dataclass(frozen=True)
class EquilibriumTest:
    """Whether a stretch of a run is in equilibrium, and if not, why.

    Attributes:
        drifts: dict from quantity to the `Interval` of its relative change over the stretch.
        imbalance: `Interval`, see `weight_norm_imbalance`.
        is_steady: whether every drift is within the tolerance: True, False, or `None` where the
            intervals do not tell.
        is_balanced: the same of the imbalance.
        reason: one sentence on what was found and what would help.
    """

    drifts: dict
    imbalance: Interval
    is_steady: bool | None
    is_balanced: bool | None
    reason: str

    @property
    def in_equilibrium(self):
        """True, False, or `None` where the intervals do not tell."""
        if self.is_steady is False or self.is_balanced is False:
            return False
        return True if self.is_steady and self.is_balanced else None


def equilibrium_test(
    rows,
    weight_decay,
    learning_rate=None,
    ell=1.0,
    tolerance=_TOLERANCE,
    confidence=CONFIDENCE,
):
    """Tests a stretch of a run for drift of R, N, G and for the balance of R.

    The two together tell a run that is still under way (drift, but balanced) from one whose loss
    is not scale invariant (steady, but not balanced). "Within the tolerance" is shown by intervals
    that lie inside it; "not within", by one wholly outside, Bonferroni-corrected.

    Args:
        rows: rows of a run's `metrics.jsonl`, or dicts with the same columns: `step`,
            `weight_norm` at that step, and `gradient_noise` and `gradient_signal`, means since the
            row before. Of the first row only `step` and `weight_norm` are used. The learning rate
            must be the same in all rows.
        weight_decay: lambda > 0; twice the factor of a Keras `L2` regulariser.
        learning_rate: eta, of the SGD run that is modelled. Defaults to the column
            `learning_rate`.
        ell: amplification. Defaults to `1.0`.
        tolerance: largest relative change and imbalance that count as none. Defaults to `0.1`.
        confidence: Float in (0, 1). Defaults to `0.95`.

    Returns:
        An `EquilibriumTest`.

    Raises:
        ValueError: if there are fewer than five rows, steps do not increase, the learning rate
            changes, or an argument is out of range.
    """
    rows = _as_rows(rows)
    if len(rows) < 5:
        raise ValueError(
            f"`rows` must be at least 5, to see a trend. Received: {len(rows)} rows. Record more "
            "often, or use a longer stretch."
        )
    tolerance = finite_float("tolerance", tolerance, "a number > 0", 0.0, exclusive=True)
    decay = finite_float("weight_decay", weight_decay, "a number > 0", 0.0, exclusive=True)
    eta = _constant_learning_rate(rows) if learning_rate is None else learning_rate
    steps = _row_lengths(rows[1:], rows[0]["step"])
    columns = {
        name: np.array([row[name] for row in rows], float) for name in (WEIGHT_NORM, NOISE, SIGNAL)
    }

    def intervals(level):
        drifts = {
            name: relative_drift(column[1:], steps, level) for name, column in columns.items()
        }
        imbalance = weight_norm_imbalance(
            columns[WEIGHT_NORM],
            columns[NOISE][1:],
            columns[SIGNAL][1:],
            steps,
            eta,
            decay,
            ell,
            confidence=level,
        )
        return drifts, imbalance

    drifts, imbalance = intervals(confidence)
    strict_drifts, strict_imbalance = intervals(1 - (1 - confidence) / (len(drifts) + 1))
    is_steady = _within(drifts.values(), strict_drifts.values(), tolerance)
    is_balanced = _within([imbalance], [strict_imbalance], tolerance)
    rate = 4 * eta * decay
    wait = ell / rate if rate > 0 else math.inf
    facts = _describe(drifts, imbalance)
    reason = facts + _explain(drifts, imbalance, is_steady, is_balanced, tolerance, wait)
    return EquilibriumTest(drifts, imbalance, is_steady, is_balanced, reason)


def _constant_learning_rate(rows):
    rates = np.array([row["learning_rate"] for row in rows[1:]], float)
    if not np.allclose(rates, rates[0], rtol=1e-6, atol=0):
        raise ValueError(
            "`rows` must have one learning rate: each has an equilibrium of its own. Received: "
            f"rates from {rates.min():g} to {rates.max():g}. Take rows between two changes."
        )
    return float(rates[0])


def _within(intervals, strict_intervals, tolerance):
    if any(i.ci_low > tolerance or i.ci_high < -tolerance for i in strict_intervals):
        return False
    return True if all(_is_inside(i, tolerance) for i in intervals) else None


def _is_inside(interval, tolerance):
    return -tolerance <= interval.ci_low and interval.ci_high <= tolerance


def _describe(drifts, imbalance):
    changes = ", ".join(f"{name} {_percent(i)}" for name, i in drifts.items())
    return f"Relative change of {changes}; imbalance of weight_norm {_percent(imbalance)}. "


def _percent(interval):
    low, high = 100 * interval.ci_low, 100 * interval.ci_high
    return f"{100 * interval.mean:.3g} % ({low:.3g} to {high:.3g} %)"


def _explain(drifts, imbalance, is_steady, is_balanced, tolerance, wait):
    if is_balanced is False:
        return (
            "Noise, signal and weight decay do not account for weight_norm: the loss is not scale "
            "invariant (or there is momentum, clipping, or another weight decay than was given)."
        )
    if is_steady is False:
        return (
            f"Not yet in equilibrium, which is approached over some {wait:.3g} steps "
            "(ell / (4 eta lambda)); take a later stretch."
        )
    if is_steady and is_balanced:
        return f"In equilibrium within {100 * tolerance:.3g} %."
    undecided = [
        f"the change of {name}" for name, i in drifts.items() if not _is_inside(i, tolerance)
    ]
    undecided += [] if _is_inside(imbalance, tolerance) else ["the imbalance"]
    return (
        f"Whether {' and '.join(undecided)} is within {100 * tolerance:.3g} % cannot be told; a "
        "longer stretch would narrow the interval."
    )
