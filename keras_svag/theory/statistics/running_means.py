"""Means of N, G and more over the rows of a run, as studies record them or `fit` returns them."""

import math

import numpy as np

from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.theory.quantities import NOISE, SIGNAL
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_of_means
from keras_svag.theory.statistics.series import (
    AUTOCOVARIANCE,
    batch_means,
    number_of_batches,
    series_mean,
)


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
        rows = as_rows(rows)
        means = cls(names, rows_per_block)
        for row, weight in zip(rows, row_lengths(rows, start)):
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
        number = number_of_batches(count, longest)
        return [batch_means(*pair, number)[0] for pair in series]

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


def as_rows(rows):
    """Returns a list of dicts, of which a dict of lists is another form."""
    if isinstance(rows, dict):
        return [dict(zip(rows, values)) for values in zip(*rows.values())]
    return list(rows)


def row_lengths(rows, start):
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
