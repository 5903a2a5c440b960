"""The paper's linear-scaling figure against the bound of this package."""

import pytest

from keras_svag.studies.linear_scaling.paper_figure import PUBLISHED
from keras_svag.theory import TIGHT, lsr_max_kappa

# The bound as batch sizes, from the base batch sizes 16 and 128.
BOUNDS = {
    "PreResNet BN": {16: 1435, 128: 1910},
    "PreResNet GN": {16: 214, 128: 458},
    "VGG-19 GN": {16: 241, 128: 552},
}


def largest_batch_size(curve, base):
    ratio = curve.signal_to_noise[curve.batch_sizes.index(base)]
    return base * lsr_max_kappa([1.0, 1.0], [ratio, ratio], form=TIGHT).mean


@pytest.mark.parametrize("curve", PUBLISHED, ids=lambda curve: curve.network)
def test_whatever_lies_beyond_the_bound_fails(curve):
    """Test error up by a fifth or more at every batch size beyond it, from every base."""
    best = min(curve.test_error)
    for base in curve.batch_sizes:
        bound = largest_batch_size(curve, base)
        beyond = [e for b, e in zip(curve.batch_sizes, curve.test_error) if b > bound]
        assert all(error >= 1.2 * best for error in beyond), base


@pytest.mark.parametrize("curve", PUBLISHED, ids=lambda curve: curve.network)
def test_bound_is_strictest_from_a_small_base(curve):
    for base, bound in BOUNDS[curve.network].items():
        assert largest_batch_size(curve, base) == pytest.approx(bound, abs=1)
    assert largest_batch_size(curve, 16) < largest_batch_size(curve, 128)


@pytest.mark.parametrize("curve", PUBLISHED, ids=lambda curve: curve.network)
def test_signal_grows_over_noise_with_the_batch(curve):
    assert list(curve.signal_to_noise) == sorted(curve.signal_to_noise)
    assert len(curve.batch_sizes) == len(curve.signal_to_noise) == len(curve.test_error)
