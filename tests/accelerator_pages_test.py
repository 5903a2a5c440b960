"""docs/tpu.md and docs/experiments.md: their tables are made from kept rows."""

import pytest

from docs import build_accelerator

TPU, GPU = (build_accelerator.load(name) for name in ("tpu.json", "gpu.json"))
SETTINGS = build_accelerator.by_program(TPU)


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
