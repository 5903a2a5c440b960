"""`--strategy` of the trainers, run as a user runs them."""

import keras
import pytest

from keras_svag.engine.files import records
from tests.trainers.command import assert_refused, load, trainer

OPTIONS = [
    "--config=configs/digits.py:quick",
    "--config.train.batch_size=64",
    "--config.base_batch_size=64",
    "--config.train.ell=2",
]
# TensorFlow has no such variable: there it is one device under a strategy.
DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.mark.slow
def test_mirrored_run_is_that_of_one_device(tmp_path):
    rows = {}
    for strategy in ("none", "mirrored"):
        workdir = tmp_path / strategy
        arguments = [*OPTIONS, f"--workdir={workdir}", f"--strategy={strategy}"]
        done = trainer(*arguments, name="train", **DEVICES)
        assert done.returncode == 0, done.stderr
        rows[strategy] = records.read_jsonl(workdir / "runs/b64_ell2_seed0/metrics.jsonl")
    assert len(rows["none"]) == len(rows["mirrored"]) == 10
    for row, expected_row in zip(rows["mirrored"], rows["none"]):
        # Float32 sums in another order; one example may lie between two classes as closely.
        close = {"rel": 1e-4, "abs": 1.5 / 360}
        assert row == {name: pytest.approx(value, **close) for name, value in expected_row.items()}


@pytest.mark.slow
def test_shards_of_a_study_under_a_strategy(tmp_path):
    sizes = ["--config.sde_validity.batch_sizes=64", "--config.num_seeds=2"]
    options = [OPTIONS[0], *sizes, "--config.max_num_seeds=2", "--strategy=mirrored"]
    for folder, shards in (("whole", [()]), ("cut", [("--shard=1/2",), ("--shard=2/2",)])):
        for shard in shards:
            assert not (tmp_path / folder / "verdict.json").exists()
            done = trainer(*options, *shard, f"--workdir={tmp_path / folder}", **DEVICES)
            assert done.returncode == 0, done.stderr
    assert load(tmp_path / "whole" / "verdict.json")["study"] == "sde_validity"
    for name in ("verdict.json", "runs/b64_ell1_seed1/metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.requires_jax
def test_batch_that_cannot_be_shared_leaves_nothing_behind(tmp_path):
    arguments = [*OPTIONS, f"--workdir={tmp_path / 'x'}", "--strategy=mirrored"]
    done = trainer(*arguments, "--config.train.batch_size=63", name="train", **DEVICES)
    assert_refused(done, "`batch_size` must be a multiple of the number of replicas, 2")
    assert list(tmp_path.iterdir()) == []


def test_processes_that_nobody_names(tmp_path):
    arguments = [*OPTIONS, f"--workdir={tmp_path / 'x'}", "--strategy=multi_worker"]
    done = trainer(*arguments, name="train")
    words = "TF_CONFIG" if keras.backend.backend() == "tensorflow" else "KERAS_DISTRIBUTION"
    assert_refused(done, "'multi_worker'", words)
    assert list(tmp_path.iterdir()) == []
