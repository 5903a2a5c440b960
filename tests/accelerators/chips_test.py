"""Published peaks, names of topologies, and the least time of a program."""

import dataclasses

import pytest

from keras_svag.accelerators import CHIPS, Chip, Counts, parse_topology, roofline_seconds

COUNTS = Counts(
    flops=1e12,
    bytes=1e9,
    on_chip_bytes=0,
    temporary_bytes=3,
    argument_bytes=5,
    output_bytes=7,
    code_bytes=11,
    collectives={},
    host_transfers=0,
    dynamic_shapes=0,
    products={},
    layout_copies={},
    kernels={},
    compile_seconds=0.0,
)
CHIP = Chip("x", flops=1e13, memory=1e9, bandwidth=1e10, link_bandwidth=1e9, source="")


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [("v5e:2x4", "v5e", 8), ("v4:2x2x1", "v4", 4), ("v6e:1x1", "v6e", 1), ("h100", "h100", 1)],
)
def test_topologies(text, name, count):
    assert parse_topology(text) == (CHIPS[name], count)


@pytest.mark.parametrize("text", ["v9:1x1", "2x2", "", "v5e:0x2", "v5e:2xx", "v5e:two"])
def test_wrong_topologies_are_refused(text):
    with pytest.raises(ValueError, match="`topology` must be .*Received: topology="):
        parse_topology(text)


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({}, 0.1),  # both take as long
        ({"flops": 2e12}, 0.2),
        ({"bytes": 3e9}, 0.3),
        ({"bytes": 3e9, "on_chip_bytes": 1e9}, 0.2),
        ({"on_chip_bytes": 2e9}, 0.1),
        ({"bytes": 3e9, "off_chip_bytes": 2e9}, 0.2),
        ({"bytes": 3e9, "off_chip_bytes": 4e9}, 0.3),
        ({"collectives": {"all-reduce": {"count": 1, "bytes": 2e8}}}, 0.4),
    ],
)
def test_the_longest_of_computing_memory_and_links(change, seconds):
    counts = dataclasses.replace(COUNTS, **change)
    assert roofline_seconds(counts, CHIP, "float32") == pytest.approx(seconds)


def test_float32_may_have_a_lower_peak():
    chip = dataclasses.replace(CHIP, float32_flops=5e12)
    assert roofline_seconds(COUNTS, chip, "float32") == pytest.approx(0.2)
    assert roofline_seconds(COUNTS, chip, "mixed_bfloat16") == pytest.approx(0.1)


def test_a_compiler_that_counts_nothing_gives_no_time():
    assert roofline_seconds(dataclasses.replace(COUNTS, flops=None), CHIP, "float32") is None


def test_memory_is_all_that_a_program_has_at_once():
    assert COUNTS.memory_bytes == 3 + 5 + 7 + 11


def test_every_chip_names_its_source():
    assert all(chip.source.startswith("https://") for chip in CHIPS.values())
