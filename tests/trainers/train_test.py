"""Tests of trainers/train.py, run as a user runs it."""

import json

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from keras_svag.datasets import digits
from keras_svag.engine.files import records
from tests.backends import run_code
from tests.mlp_oracle import DigitsNet
from tests.trainers.command import assert_refused, trainer

QUICK = "--config=configs/digits.py:quick"
OPTIONS = [
    "--config.model.depth=2",
    "--config.train.ell=2",
    "--config.train.batch_size=64",
    "--config.optimizer.name=SVAGAdam",
    "--config.optimizer.beta_1=0.8",
    "--config.base_batch_size=32",
    "--config.learning_rate=0.01",
    "--config.weight_decay=0.0",
    "--config.evaluation_size=300",
]
RUN = "runs/b64_ell2_seed0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a short run with SVAGAdam, and what it printed."""
    workdir = tmp_path_factory.mktemp("train") / "digits"
    done = trainer(QUICK, f"--workdir={workdir}", *OPTIONS, name="train")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_what_it_prints(trained):
    workdir, done = trained
    last = records.read_jsonl(workdir / RUN / "metrics.jsonl")[-1]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["test_accuracy", f"{last['test_accuracy']:.5g}"] in lines
    # 2 epochs of 1437 / 64 = 45 effective steps at ell = 2.
    assert "To do: 1 run on 1 worker, 90 steps, 11,520 examples." in done.stderr


def test_files(trained):
    workdir, _ = trained
    names = {p.relative_to(workdir).as_posix() for p in workdir.rglob("*") if p.is_file()}
    run = ("metrics.jsonl", "result.json", "model.keras", "checkpoint/latest.npz")
    run += ("tensorboard/events.out.tfevents.0.keras_svag",)
    assert names == {".lock", "config.json", "environment.json", "result.json"} | {
        f"{RUN}/{name}" for name in run
    }
    result = json.loads((workdir / "result.json").read_text())
    assert (result["status"], result["ell"], result["batch_size"]) == ("done", 2.0, 64)
    # Adam's rule: the square root of 64 / 32.
    assert result["learning_rate"] == pytest.approx(0.01 * 2**0.5)
    assert result["last_record"]["effective_step"] == 45
    assert result["last_record"]["train_loss"] < 1.5  # log(10) = 2.3 at the start


def test_saved_network_needs_keras_alone(trained):
    workdir, _ = trained
    code = """
import sys, keras
model = keras.saving.load_model(sys.argv[1])
print(len(model.layers), any(name.startswith("keras_svag") for name in sys.modules))
"""
    printed = run_code(code, workdir / RUN / "model.keras", backend=keras.backend.backend())
    assert int(printed.split()[0]) > 3 and printed.split()[1] == "False"


def test_saved_network_is_the_one_that_was_evaluated(trained):
    workdir, _ = trained
    model = keras.saving.load_model(workdir / RUN / "model.keras")
    assert type(model) is keras.Model or not type(model).__module__.startswith("keras_svag")
    kernels = [w.astype(np.float64) for w in model.get_weights()]
    data = digits()
    loss, accuracy = DigitsNet().loss_and_accuracy(
        kernels[:3], data.test_x[:300].astype(np.float64), data.test_y[:300]
    )
    last = records.read_jsonl(workdir / RUN / "metrics.jsonl")[-1]
    assert last["test_loss"] == pytest.approx(loss, rel=1e-5)
    assert last["test_accuracy"] == pytest.approx(accuracy, abs=1.5 / 300)


def test_tensorboard_reads_the_records(trained):
    workdir, _ = trained
    rows = records.read_jsonl(workdir / RUN / "metrics.jsonl")
    path = workdir / RUN / "tensorboard" / "events.out.tfevents.0.keras_svag"
    read = {}
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.tag.startswith("_hparams_"):
                continue
            number = value.tensor.float_val[0] if value.HasField("tensor") else value.simple_value
            read[event.step, value.tag] = number
    for row in rows:
        for name in ("train_loss", "gradient_noise", "weight_norm", "learning_rate"):
            assert read[row["effective_step"], name] == pytest.approx(row[name], rel=1e-6)
    assert len({step for step, _ in read}) == len(rows) == 10


def test_again_on_the_same_folder(trained):
    workdir, _ = trained
    before = {p: p.stat().st_mtime_ns for p in (workdir / RUN).rglob("*") if p.is_file()}
    done = trainer(QUICK, f"--workdir={workdir}", *OPTIONS, name="train")
    assert done.returncode == 0 and "Finished before: 1." in done.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (workdir / RUN).rglob("*") if p.is_file()}
    done = trainer(QUICK, f"--workdir={workdir}", *OPTIONS, "--config.train.ell=4", name="train")
    assert_refused(done, "`workdir` must be new or belong to the same config", "train.ell")


def test_batch_size_beyond_the_rule_of_the_optimizer_leaves_nothing_behind(tmp_path):
    # beta_1 = 0.8 allows a factor below 5; 256 / 32 is 8.
    options = [*OPTIONS, "--config.train.batch_size=256"]
    done = trainer(QUICK, f"--workdir={tmp_path / 'x'}", *options, name="train")
    assert_refused(done, "`kappa` must be below 5 for beta_1=0.8")
    assert list(tmp_path.iterdir()) == []


def test_one_run_has_no_shards(tmp_path):
    done = trainer(QUICK, f"--workdir={tmp_path / 'x'}", "--shard=1/4", name="train")
    assert_refused(done, "--shard", "shard='1/4'")
    assert list(tmp_path.iterdir()) == []
