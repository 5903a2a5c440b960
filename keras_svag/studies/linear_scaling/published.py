"""The linear-scaling figure of the paper, as numbers.

Li, Malladi, Arora 2021 (arXiv 2102.12470): G/N in equilibrium and test error on CIFAR-10 by
batch size, learning rate in proportion. Read off the published figure: within 3 % in G/N and
0.003 in the error.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class PublishedCurve:
    """One network of the figure; the tuples run over `batch_sizes`."""

    network: str
    batch_sizes: tuple[int, ...]
    signal_to_noise: tuple[float, ...]
    test_error: tuple[float, ...]


_SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
PUBLISHED = (
    PublishedCurve(
        "PreResNet with batch norm",
        _SIZES[1:],
        (0.0049, 0.0072, 0.0114, 0.0222, 0.0441, 0.0774, 0.173, 0.356, 1.52, 4.49),
        (0.085, 0.078, 0.074, 0.075, 0.078, 0.075, 0.077, 0.084, 0.124, 0.165),
    ),
    PublishedCurve(
        "PreResNet with group norm",
        _SIZES,
        (0.0107, 0.0286, 0.0443, 0.088, 0.168, 0.283, 0.632, 1.44, 2.89, 9.91, 17.3),
        (0.094, 0.100, 0.098, 0.096, 0.097, 0.103, 0.107, 0.117, 0.139, 0.196, 0.527),
    ),
    PublishedCurve(
        "VGG-19 with group norm",
        _SIZES,
        (0.0068, 0.0154, 0.0292, 0.0764, 0.129, 0.229, 0.433, 0.768, 2.08, 3.49, 7.51),
        (0.087, 0.086, 0.089, 0.089, 0.092, 0.096, 0.095, 0.104, 0.126, 0.236, 0.541),
    ),
)
