"""Programs compiled by the compiler for TPUs, without one: what they cost, and what they lack."""

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.backends import ROOT

pytestmark = [
    pytest.mark.requires_jax,
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None,
        reason='needs the compiler for TPUs: pip install "keras-svag[tpu-compile]"',
    ),
]
# Weights of the digits MLP; its last kernel is not trained.
TRAINED_BYTES = 4 * 2 * 64 * 64


def compile_programs(folder, *flags):
    """Runs the benchmark; returns its rows by program, type and number of chips."""
    output = folder / "rows.json"
    command = [sys.executable, "-m", "benchmarks.accelerator", f"--output={output}", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return {(r["program"], r["dtype"], r["chips"]): r for r in json.loads(output.read_text())}


@pytest.fixture(scope="module")
def mlp(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v5e")
    return compile_programs(folder, "--topology=v5e:2x2", "--models=mlp", "--dtypes=float32")


def of(rows, name, program, chips=1, dtype="float32"):
    return rows[program, dtype, chips][name]


def check_any_program(rows):
    """What no program may have, whatever the topology."""
    for key, row in rows.items():
        assert row["host_transfers"] == row["dynamic_shapes"] == 0, key
        assert row["fits"] and row["flops"] > 0 < row["roofline_seconds"], key
        # Nothing but sums over the chips, of gradients above all.
        assert set(row["collectives"]) <= {"all-reduce"}, key
        if row["dtype"] == "mixed_bfloat16":
            # None at all where each of 16 chips has one example: then they are sums of products.
            assert set(row["products"]) <= {"bf16"}, key
            assert row["products"] or row["chips"] == row["batch_size"], key


def test_programs_of_one_v5e_chip(mlp):
    check_any_program(mlp)
    assert len(mlp) == 10 + 5
    # Eight of these steps are a small part of a TPU's tile: hence more than twice as many.
    assert 1.9 < of(mlp, "flops", "svag") / of(mlp, "flops", "plain") < 2.2
    noise_off = of(mlp, "bytes", "svag_without_noise")
    assert of(mlp, "bytes", "svag") < 1.05 * noise_off


def check_memory_of_many_steps(rows):
    """512 steps need what a loop of two needs, and the indices of their examples."""
    one, two, many = (rows[name, "float32", 1] for name in ("one_step", "two_steps", "many_steps"))
    assert many["memory_bytes"] < 1.05 * two["memory_bytes"]
    assert many["temporary_bytes"] <= two["temporary_bytes"]
    indices = 4 * 2 * many["batch_size"]
    assert many["argument_bytes"] - two["argument_bytes"] == pytest.approx(510 * indices, rel=0.05)
    for loop in (two, many):
        assert loop["flops"] == pytest.approx(one["flops"], rel=0.01)


def test_memory_does_not_grow_with_the_number_of_steps(mlp):
    check_memory_of_many_steps(mlp)
    # A single step has no loop. The numbers that one carries take 32 KiB each (docs/tpu.md).
    one, two = (of(mlp, "temporary_bytes", name) for name in ("one_step", "two_steps"))
    assert two - one < 40 * 2**15


def test_eight_seeds_cost_eight_times_as_much(mlp):
    ratio = of(mlp, "flops", "seeds") / of(mlp, "flops", "many_steps")
    assert 7.5 < ratio < 8.2


def test_chips_send_each_other_gradients_and_a_few_numbers(mlp):
    for program, gradients in (("plain", 1), ("svag", 2), ("svag_without_noise", 2)):
        sent = of(mlp, "collectives", program, chips=4)["all-reduce"]["bytes"]
        assert gradients * TRAINED_BYTES < sent < gradients * TRAINED_BYTES + 100
        assert of(mlp, "collectives", program) == {}


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["v4:2x2x1", "v5e:4x4", "v5p:2x2x1", "v6e:2x4"])
def test_other_topologies(tmp_path, topology):
    rows = compile_programs(tmp_path, f"--topology={topology}", "--models=mlp", "--batch_size=16")
    check_any_program(rows)
    assert len(rows) == 2 * (10 + 5)


@pytest.mark.slow
def test_convolutions_of_an_svag_step_are_two_plain_steps(tmp_path):
    flags = (
        "--topology=v5e:1x1",
        "--models=preresnet8",
        "--programs=plain,svag,svag_without_noise",
    )
    rows = compile_programs(tmp_path, *flags)
    check_any_program(rows)
    for dtype in ("float32", "mixed_bfloat16"):
        plain, svag, without = (
            rows[name, dtype, 1] for name in ("plain", "svag", "svag_without_noise")
        )
        assert svag["flops"] < 1.01 * 2 * plain["flops"]
        assert svag["bytes"] < 1.03 * 2 * plain["bytes"]
        assert svag["bytes"] < 1.01 * without["bytes"]
        assert sum(svag["products"].values()) == 2 * sum(plain["products"].values())


@pytest.mark.slow
def test_memory_of_many_steps_with_convolutions(tmp_path):
    flags = ("--programs=one_step,two_steps,many_steps", "--dtypes=float32")
    rows = compile_programs(tmp_path, "--topology=v5e:1x1", "--models=preresnet8", *flags)
    check_memory_of_many_steps(rows)
