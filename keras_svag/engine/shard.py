"""Shards of a study's grid, for several processes or machines on one workdir."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Shard:
    """Shard `index` (from 1) of `count`."""

    index: int
    count: int

    def __str__(self):
        return f"{self.index}/{self.count}"

    def select(self, grid, num_train):
        """Returns this shard's runs; the shards partition the grid at about equal cost."""
        costly_first = sorted(
            grid, key=lambda run: (-run.steps * run.examples_per_step(num_train), run.name)
        )
        return costly_first[self.index - 1 :: self.count]


def parse_shard(text):
    """Parses `"i/n"` to a `Shard`; `None` stays `None`."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise ValueError(
            "`shard` must be i/n with integers 1 <= i <= n, such as 2/8 for the second of eight "
            f"shards. Received: shard={text!r}"
        )
    return Shard(index, count)
