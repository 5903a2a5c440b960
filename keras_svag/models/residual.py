"""Structure of residual networks for small images: three stages of basic blocks."""

from keras_svag._checks import positive_int

STAGE_CHANNELS = (16, 32, 64)


def blocks_per_stage(depth):
    """Blocks in each of the three stages: n for a depth of 6n + 2."""
    if positive_int("depth", depth) < 8 or (depth - 2) % 6:
        raise ValueError(
            "`depth` must be 6n + 2 with n >= 1, such as 8, 14, 20 or 32. "
            f"Received: depth={depth!r}"
        )
    return (depth - 2) // 6


def blocks(counts, blocks_in_stage):
    """Yields `(stage, block, channels, stride)` of each block; later stages start with stride 2."""
    for stage, channels in enumerate(counts):
        for block in range(blocks_in_stage):
            yield stage, block, channels, 2 if stage > 0 and block == 0 else 1
