"""Which batch size pays: statistical efficiency times throughput.

A step at kappa times the batch size, with the learning rate raised to match, makes the progress of
`(N + G) / (N/kappa + G)` base steps: the gain of AdaScale SGD (Johnson et al. 2020, arXiv
2007.05105), by which AdaptDL and Pollux choose batch sizes (Qiao et al. 2021, arXiv 2008.12260).
"""

import dataclasses
import math
from collections.abc import Mapping

from keras_svag._checks import finite_float, positive_int
from keras_svag.report.text import align
from keras_svag.theory.statistics.intervals import Interval


@dataclasses.dataclass(frozen=True)
class BatchSizeRow:
    """A batch size with time and cost to the same loss; `None` where it does not fit."""

    batch_size: int  # examples in a batch of `fit`
    devices: int
    step_seconds: float | None = None
    examples_per_second: float | None = None  # on all devices
    # Relative to the base.
    steps: float | None = None
    time: float | None = None  # steps times seconds of a step
    # Device seconds: time times devices, or, which is the same, examples processed times device
    # seconds per example.
    cost: float | None = None


@dataclasses.dataclass(frozen=True)
class BatchSizeTable:
    """Batch sizes with time and cost to the same loss; `print` shows them."""

    rows: tuple[BatchSizeRow, ...]  # in order of batch size
    base_batch_size: int
    noise_scale: float  # B N/G in examples of a batch of `fit`
    least_time: int  # batch size
    least_cost: int  # batch size; the smaller one where two are equal

    def __str__(self):
        header = ("batch size", "devices", "ms/step", "examples/s", "steps", "time", "cost")
        lines = align([header, *(_format(row) for row in self.rows)])
        lines.append(
            f"Least time: batch size {self.least_time}; least cost: {self.least_cost}. Steps, time "
            f"and cost (device seconds) to the same loss are relative to {self.base_batch_size}, "
            f"with noise scale {self.noise_scale:.3g}."
        )
        return "\n".join(lines)


def _format(row):
    cell = (f"{row.batch_size}", f"{row.devices}")
    if row.step_seconds is None:
        return *cell, "does not fit", "-", "-", "-", "-"
    numbers = (f"{n:.3g}" for n in (row.steps, row.time, row.cost))
    return *cell, f"{1e3 * row.step_seconds:.3g}", f"{row.examples_per_second:,.0f}", *numbers


def gain(kappa, noise_scale, base_batch_size):
    """Returns how many base steps one step at kappa times the batch size is worth."""
    # (N + G) / (N/kappa + G), with N/G at the base batch size.
    ratio = noise_scale / base_batch_size
    return kappa if math.isinf(ratio) else (ratio + 1) / (ratio / kappa + 1)


def weigh_batch_sizes(step_seconds, noise_scale, base_batch_size=None, devices=1):
    """Returns a `BatchSizeTable`, given seconds by batch size, `None` where it does not fit."""
    # Documented for users by `probe_throughput`.
    fitting = sorted(size for size, seconds in step_seconds.items() if seconds is not None)
    if not fitting:
        raise ValueError(
            "`step_seconds` must have a batch size that fits into memory. "
            f"Received: step_seconds={step_seconds!r}. Measure smaller ones."
        )
    fit_size = getattr(noise_scale, "fit_batch_size", None)
    if base_batch_size is None:
        base_batch_size = fit_size if fit_size in fitting else fitting[0]
    if base_batch_size not in fitting:
        raise ValueError(
            f"`base_batch_size` must be one of the batch sizes that fit, {fitting}. "
            f"Received: base_batch_size={base_batch_size}"
        )
    scale = _noise_scale(noise_scale, base_batch_size)
    counts = {size: _count_devices(devices, size) for size in step_seconds}
    base = base_batch_size, step_seconds[base_batch_size], counts[base_batch_size]
    rows = tuple(
        _weigh(size, step_seconds[size], counts[size], base, scale) for size in sorted(counts)
    )
    done = [row for row in rows if row.time is not None]
    fastest = min(done, key=lambda row: row.time)
    cheapest = min(done, key=lambda row: row.cost)
    return BatchSizeTable(rows, base_batch_size, scale, fastest.batch_size, cheapest.batch_size)


def _weigh(size, seconds, devices, base, noise_scale):
    if seconds is None:
        return BatchSizeRow(size, devices)
    seconds = finite_float("step_seconds", seconds, "numbers > 0", 0.0, exclusive=True)
    base_size, base_seconds, base_devices = base
    steps = 1 / gain(size / base_size, noise_scale, base_size)
    time = steps * seconds / base_seconds
    cost = time * devices / base_devices
    return BatchSizeRow(size, devices, seconds, size / seconds, steps, time, cost)


def _count_devices(devices, size):
    if not isinstance(devices, Mapping):
        return positive_int("devices", devices)
    if size not in devices:
        raise ValueError(
            "`devices` must have every batch size that was measured. "
            f"Received: devices={devices!r}, without {size}"
        )
    return positive_int("devices", devices[size])


def _noise_scale(value, base_batch_size):
    """Returns the noise scale in examples of a batch of `fit`, which may be infinite."""
    if hasattr(value, "fit_batch_size"):
        # With accumulation, an update sees several batches of `fit`; with SVAG half of one.
        scale: float | Interval = value.noise_scale.mean * value.fit_batch_size / value.batch_size
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        noise, signal = (finite_float("noise_scale", v, "numbers >= 0", 0.0) for v in value)
        scale = base_batch_size * noise / signal if signal else math.inf
    else:
        scale = value
    if scale == math.inf:
        return scale
    expected = "a number >= 0, a pair (N, G), or an Advice whose noise scale is known"
    return finite_float("noise_scale", scale, expected, 0.0)
