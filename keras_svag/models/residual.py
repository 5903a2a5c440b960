"""The arrangement of residual networks for small images: three stages of basic blocks."""

from keras_svag._checks import positive_int

STAGE_CHANNELS = (16, 32, 64)


def blocks_per_stage(depth):
    """Blocks in each of the three stages: n, where the depth is 6n + 2 (two convolutions a block).

    Args:
        depth: int, 8, 14, 20 ...

    Returns:
        n, an int.

    Raises:
        ValueError: if `depth` is not of that form.
    """
    if positive_int("depth", depth) < 8 or (depth - 2) % 6:
        raise ValueError(
            "`depth` must be 6n + 2 with n >= 1, such as 8, 14, 20 or 32. "
            f"Received: depth={depth!r}"
        )
    return (depth - 2) // 6


def blocks(counts, blocks_in_stage):
    """Goes through the blocks of a network.

    Args:
        counts: channels of each stage.
        blocks_in_stage: number of blocks in each.

    Yields:
        `(stage, block, channels, stride)`; the first block of each stage but the first halves
        height and width.
    """
    for stage, channels in enumerate(counts):
        for block in range(blocks_in_stage):
            yield stage, block, channels, 2 if stage > 0 and block == 0 else 1
