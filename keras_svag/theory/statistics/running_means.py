"""Running means of N, G and more over the rows of a run."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_svag._checks import finite_float, one_of, positive_int
from keras_svag.theory.quantities import NOISE, SIGNAL, Row, Rows
from keras_svag.theory.statistics.intervals import CONFIDENCE, Interval, ratio_of_means
from keras_svag.theory.statistics.series import (
    AUTOCOVARIANCE,
    SeriesMean,
    batch_means,
    number_of_batches,
    series_mean,
)


class RunningMeans:
    """Running means of several quantities of one run, with standard errors.

    Rows are averaged in blocks, which are merged when there are too many: memory stays bounded.
    Standard errors are those of `series_mean`. `from_rows` takes the rows of a run's
    `metrics.jsonl`, or `fit(...).history`; rows that have `"step"` are weighted by the steps since
    the previous row.

    Args:
        names: The quantities. Defaults to `("gradient_noise", "gradient_signal")`.
        rows_per_block: Number of rows that stay in one block, such as the steps of a shuffled
            epoch, since they depend on each other. Defaults to `1`.
        max_blocks: Number of blocks to keep, an even number >= 8. Defaults to `512`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> history = {"gradient_noise": [2.0, 4.0, 3.0], "gradient_signal": [1.0, 1.0, 1.0]}
    >>> means = RunningMeans.from_rows(history)
    >>> means.estimate("gradient_noise").mean
    3.0
    """

    def __init__(
        self,
        names: Sequence[str] = (NOISE, SIGNAL),
        rows_per_block: int = 1,
        max_blocks: int = 512,
    ) -> None:
        self.names = tuple(names)
        self._max_blocks = positive_int("max_blocks", max_blocks, minimum=8)
        if max_blocks % 2:
            raise ValueError(
                "`max_blocks` must be even, since blocks are merged in pairs. "
                f"Received: max_blocks={max_blocks}"
            )
        self._rows_per_block = positive_int("rows_per_block", rows_per_block)
        self._rows_in_open_block = 0
        # Of each block, the sums of weight and of weight times value.
        self._blocks: list[np.ndarray] = []

    @classmethod
    def from_rows(
        cls,
        rows: Rows,
        names: Sequence[str] = (NOISE, SIGNAL),
        start: int = 0,
        rows_per_block: int = 1,
    ) -> "RunningMeans":
        """Averages recorded rows; `start` is the step at which the first row begins."""
        rows = as_rows(rows)
        means = cls(names, rows_per_block)
        for row, weight in zip(rows, row_lengths(rows, start)):
            means.add(row, weight)
        return means

    def add(self, row: Row, weight: float = 1.0) -> None:
        """Adds a row, which is ignored if a quantity is missing or not finite."""
        weight = finite_float("weight", weight, "a number > 0", 0.0, exclusive=True)
        values = np.array([row.get(name) for name in self.names], float)
        entry = weight * np.array([1.0, *values])
        if not np.isfinite(entry).all():
            # Counts as a row of its block, so that blocks still end where epochs do.
            entry = np.zeros(len(entry))
        if self._rows_in_open_block:
            self._blocks[-1] = self._blocks[-1] + entry
        else:
            self._blocks.append(entry)
        self._rows_in_open_block = (self._rows_in_open_block + 1) % self._rows_per_block
        if len(self._blocks) == self._max_blocks and not self._rows_in_open_block:
            pairs = np.array(self._blocks).reshape(len(self._blocks) // 2, 2, -1)
            self._blocks = list(pairs.sum(axis=1))
            self._rows_per_block *= 2

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the means and the weights of the blocks, in order of time."""
        column = 1 + self.names.index(one_of("name", name, self.names))
        blocks = np.array([block for block in self._blocks if block[0] > 0])
        if not len(blocks):
            return np.empty(0), np.empty(0)
        return blocks[:, column] / blocks[:, 0], blocks[:, 0]

    def estimate(self, name: str, method: str = AUTOCOVARIANCE) -> SeriesMean:
        """Returns the mean of a quantity with its standard error; see `series_mean`."""
        return series_mean(*self.series(name), method=method)

    def batches(self, *names: str) -> list[np.ndarray]:
        """Returns, for each name, means over up to 20 nearly independent batches of rows."""
        series = [self.series(name) for name in names]
        count = len(series[0][0])
        if count < 2:
            return [values for values, _ in series]
        longest = max(series_mean(*pair).correlation_time for pair in series)
        number = number_of_batches(count, longest)
        return [batch_means(*pair, number)[0] for pair in series]

    def ratio(
        self, numerator: str = NOISE, denominator: str = SIGNAL, confidence: float = CONFIDENCE
    ) -> Interval:
        """Returns the ratio of two means by Fieller's theorem on `batches`."""
        top, bottom = self.batches(numerator, denominator)
        if not len(top):
            return Interval(math.nan, -math.inf, math.inf)
        return ratio_of_means(top, bottom, confidence)


def as_rows(rows: Rows) -> list[Row]:
    """Returns a list of dicts, also for a dict of lists."""
    if isinstance(rows, Mapping):
        return [dict(zip(rows, values)) for values in zip(*rows.values())]
    return list(rows)


def row_lengths(rows: Sequence[Row], start: float) -> np.ndarray:
    """Number of steps of each row; 1 if rows have no `"step"`."""
    if not all("step" in row for row in rows):
        return np.ones(len(rows))
    lengths = np.diff([start, *(row["step"] for row in rows)])
    if (lengths <= 0).any():
        raise ValueError(
            "`rows` must be in order, their `step` increasing from `start`. Received: "
            f"start={start}, steps={[row['step'] for row in rows]}"
        )
    return lengths
