"""docs/tpu.md and docs/experiments.md: their tables are made from kept rows."""

import pytest

from docs import build_accelerator
from tests.accelerators.gpu_test import check_steps

TPU, GPU = (build_accelerator.load(name) for name in ("tpu.json", "gpu.json"))
SETTINGS, GPU_SETTINGS = map(build_accelerator.by_program, (TPU, GPU))


def test_pages_have_the_tables_of_the_kept_rows():
    for path, text in build_accelerator.pages().items():
        assert path.read_text("utf-8") == text, path
    assert GPU and {1, 4} <= {row["chips"] for row in TPU}


@pytest.mark.parametrize("row", [*TPU, *GPU], ids=lambda r: f"{r['model']}:{r['program']}")
def test_no_program_waits_for_the_host_or_has_unknown_shapes(row):
    assert row["host_transfers"] == row["dynamic_shapes"] == 0
    assert row["fits"]
    assert set(row["collectives"]) <= {"all-reduce"}
    assert row["dtype"] == "float32" or "f32" not in row["products"]


# The small ones depend on how the compiler fills a tile.
@pytest.mark.parametrize("setting", [s for s in SETTINGS if s[0].startswith("preresnet")], ids=str)
def test_an_svag_step_costs_two_plain_steps(setting):
    programs = SETTINGS[setting]
    if not {"plain", "svag", "svag_without_noise"} <= set(programs):
        pytest.skip("not all three steps are compiled")
    plain, svag, off = (programs[n] for n in ("plain", "svag", "svag_without_noise"))
    assert svag["flops"] <= 1.01 * 2 * plain["flops"]
    assert svag["bytes"] <= 1.03 * 2 * plain["bytes"]
    assert svag["bytes"] <= 1.01 * off["bytes"]
    # What fits into the core of a TPU (128 MiB) is not counted, so that little may be left of one
    # step, and a multiple of it of two.
    limit = max(1.5 * plain["temporary_bytes"], plain["temporary_bytes"] + 2**25)
    assert svag["temporary_bytes"] <= limit


@pytest.mark.parametrize("setting", [s for s in SETTINGS if "two_steps" in SETTINGS[s]], ids=str)
def test_512_steps_need_the_memory_of_two(setting):
    two, many = (SETTINGS[setting][name] for name in ("two_steps", "many_steps"))
    assert many["memory_bytes"] <= 1.05 * two["memory_bytes"]


@pytest.mark.parametrize("setting", GPU_SETTINGS, ids=str)
def test_on_a_gpu_an_svag_step_has_the_kernels_of_two_plain_steps(setting):
    programs = GPU_SETTINGS[setting]
    if not {"plain", "svag", "svag_without_noise"} <= set(programs):
        pytest.skip("not all three steps are compiled")
    check_steps(*(programs[n] for n in ("plain", "svag", "svag_without_noise")), setting[0])
