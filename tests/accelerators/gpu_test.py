"""Steps compiled by the compiler for GPUs, without one: how many kernels they have."""

import importlib.util

import pytest

from tests.accelerators.tpu_test import compile_programs

pytestmark = [
    pytest.mark.requires_jax,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("jax_cuda12_plugin") is None,
        reason='needs the compiler for GPUs: pip install "keras-svag[jax-cuda]"',
    ),
]


def check_steps(plain, svag, without, model):
    """An SVAG step has the kernels of two plain steps, and noise adds at most five."""
    kernels = [row["kernels"]["total"] for row in (plain, svag, without)]
    assert kernels[1] <= 1.05 * 2 * kernels[0]
    assert kernels[1] <= kernels[2] + 5
    assert svag["host_transfers"] == 0
    assert svag["layout_copies"]["count"] <= 2 * plain["layout_copies"]["count"]
    # The MLP has no activations to speak of, and keeps the gradients of the first half.
    assert model == "mlp" or svag["temporary_bytes"] <= 1.5 * plain["temporary_bytes"]


@pytest.mark.parametrize("model", ["mlp", "preresnet8"])
def test_an_svag_step_has_the_kernels_of_two_plain_steps(tmp_path, model):
    flags = ("--topology=h100", f"--models={model}", "--programs=plain,svag,svag_without_noise")
    rows = compile_programs(tmp_path, *flags)
    for dtype in ("float32", "mixed_bfloat16"):
        steps = [rows[name, dtype, 1] for name in ("plain", "svag", "svag_without_noise")]
        check_steps(*steps, model)
