"""Names of R, N and G in records and results, and types of these."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

WEIGHT_NORM, NOISE, SIGNAL = "weight_norm", "gradient_noise", "gradient_signal"
QUANTITIES = (WEIGHT_NORM, NOISE, SIGNAL)
SCALED_NOISE = "scaled_noise"  # batch size times N, which the linear scaling rule keeps
DISPLAY_NAMES = {
    WEIGHT_NORM: "squared weight norm R",
    NOISE: "gradient noise N",
    SIGNAL: "gradient signal G",
    SCALED_NOISE: "scaled gradient noise B N",
}

# One value, or an array of many.
Value = TypeVar("Value", float, np.ndarray)
# A record of `metrics.jsonl`.
Row = Mapping[str, float]
# A list of dicts, or a dict of lists as in `fit(...).history`.
Rows = Sequence[Row] | Mapping[str, Sequence[float]]
