"""A part of a study's grid, for one of several processes or machines on one workdir."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Shard:
    """Part `index` of `count`.

    Attributes:
        index: from 1 to `count`.
        count: number of parts.
    """

    index: int
    count: int

    def __str__(self):
        """As it was given."""
        return f"{self.index}/{self.count}"

    def select(self, grid, num_train):
        """This part of a grid: all parts together are the grid, and cost about the same.

        Args:
            grid: list of `Run`.
            num_train: n, number of training examples.

        Returns:
            A list of `Run`.
        """
        costly_first = sorted(
            grid, key=lambda run: (-run.steps * run.examples_per_step(num_train), run.name)
        )
        return costly_first[self.index - 1 :: self.count]


def parse_shard(text):
    """The shard that a text such as `"2/8"` names.

    Args:
        text: `"i/n"` with `1 <= i <= n`, or `None`.

    Returns:
        A `Shard`, or `None` for `None`.

    Raises:
        ValueError: if the text is something else.

    Example:

    >>> parse_shard("2/8")
    Shard(index=2, count=8)
    """
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(
            "`shard` must be i/n with whole numbers 1 <= i <= n, such as 2/8 for the second of "
            f"eight parts. Received: shard={text!r}"
        )
    return Shard(index, count)
