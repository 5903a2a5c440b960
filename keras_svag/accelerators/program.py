"""A program as it is handed to a compiler."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Program:
    """A function of `jax.jit`, and its arguments; chips share those with an index in `batches`."""

    function: Any
    arguments: tuple
    batches: tuple[int, ...] = ()
