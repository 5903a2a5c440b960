"""Cost of a program on an accelerator, as its compiler says."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Counts:
    """Cost of a program on one chip by its compiler, and contents of its HLO.

    Loops count once: the figures of a program of many steps are those of one step, apart from
    memory. `flops` and `bytes` are `None` where the compiler gives none (CUDA).
    """

    flops: float | None
    bytes: float | None
    on_chip_bytes: int
    temporary_bytes: int
    argument_bytes: int
    output_bytes: int
    code_bytes: int
    collectives: dict
    host_transfers: int
    dynamic_shapes: int
    products: dict
    layout_copies: dict
    kernels: dict
    compile_seconds: float
    off_chip_bytes: int | None = None

    @property
    def memory_bytes(self):
        """Returns what the program needs at once; outputs take the place of donated arguments."""
        return self.temporary_bytes + self.argument_bytes + self.output_bytes + self.code_bytes


def roofline_seconds(counts, chip, dtype):
    """Returns the least time that a chip can take at its published peaks; `None` if unknown."""
    # The longest of computing, reading and writing memory, and sending to other chips, as if all
    # three overlapped perfectly and nothing else took time.
    if counts.flops is None:
        return None
    # What stays inside the core is not memory traffic, although the compiler counts it; and it
    # counts more reads than there are where a kernel gathers single numbers.
    traffic = max(counts.bytes - counts.on_chip_bytes, 0)
    if counts.off_chip_bytes is not None:
        traffic = min(traffic, counts.off_chip_bytes)
    # Each chip sends at least what it contributes, through the outward half of its links.
    sent = sum(entry["bytes"] for entry in counts.collectives.values())
    return max(
        counts.flops / chip.peak_flops(dtype),
        traffic / chip.bandwidth,
        2 * sent / chip.link_bandwidth,
    )
