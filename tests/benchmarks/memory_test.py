"""Peak memory of the train step: what XLA plans does not depend on the machine's allocator."""

import pytest

from benchmarks import memory
from benchmarks.processes import in_fresh_process

pytestmark = [
    pytest.mark.requires_tensorflow,
    pytest.mark.skipif(not memory.is_supported(), reason="reads /proc"),
]


def planned(**options):
    options = {"width": 16, "depth": 3, **options}
    return in_fresh_process(memory.peaks_of_steps, "svag", "mlp", 32, 1, options)["planned"]


def test_noise_needs_no_second_set_of_large_gradients():
    gradients = 4 * (64 * 1024 + 2 * 1024 * 1024) / 2**20
    # An eighth of the largest matrix, twice. As sums along the columns: a whole set.
    assert planned(measure_noise=True) < planned(measure_noise=False) + gradients / 4
