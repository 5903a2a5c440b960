"""The published peaks of accelerators, and names of the topologies that they come in."""

import dataclasses
import math

from keras_svag._checks import one_of


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one chip, from its maker's page `source`.

    `flops` is the peak for bfloat16, at which a TPU also multiplies float32 by default; `bandwidth`
    is that of its memory, `link_bandwidth` of its links to other chips in both directions, all per
    second.
    """

    name: str
    flops: float
    memory: float
    bandwidth: float
    link_bandwidth: float
    source: str
    float32_flops: float | None = None  # where it is lower
    platform: str = "tpu"

    def peak_flops(self, dtype):
        """Returns the peak for products of `"float32"` or of `"mixed_bfloat16"` networks."""
        is_float32 = dtype == "float32" and self.float32_flops is not None
        return self.float32_flops if is_float32 else self.flops


CLOUD = "https://docs.cloud.google.com/tpu/docs/"
NVIDIA = "https://www.nvidia.com/en-us/data-center/h100/"
GIGABYTE, GIBIBYTE = 1e9, 2.0**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 275e12, 32 * GIBIBYTE, 1200e9, 300e9, f"{CLOUD}v4"),
        Chip("v5e", 197e12, 16 * GIGABYTE, 819e9, 400e9, f"{CLOUD}v5e"),
        Chip("v5p", 459e12, 95 * GIGABYTE, 2765e9, 1200e9, f"{CLOUD}v5p"),
        Chip("v6e", 918e12, 32 * GIGABYTE, 1640e9, 800e9, f"{CLOUD}v6e"),
        # Without sparsity; float32 is TF32.
        Chip("h100", 989e12, 80 * GIGABYTE, 3.35e12, 900e9, NVIDIA, 495e12, "gpu"),
    )
}


def parse_topology(text):
    """Returns the `Chip` and the number of chips of a topology such as `"v5e:2x2"` or `"h100"`."""
    name, _, shape = text.partition(":")
    chip = CHIPS[one_of("topology", name, CHIPS)]
    try:
        sizes = [int(part) for part in shape.split("x")] if shape else [1]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise ValueError(
            "`topology` must be a chip and, after a colon, how many there are along each axis. "
            f"Received: topology={text!r}. Example: v5e:2x2."
        )
    return chip, math.prod(sizes)
