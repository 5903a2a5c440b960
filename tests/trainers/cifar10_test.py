"""Trainers on a folder that looks like CIFAR-10, through a network with convolutions."""

import json

import numpy as np
import pytest

from keras_svag.datasets.tfds.cache import write_arrays
from keras_svag.engine.files import records
from tests.trainers.command import assert_refused, trainer

CONFIG = "--config=configs/cifar10.py:figure={},norm=gn,size=tiny"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A cache of 80 images; the brightness of an image tells its class."""
    rng = np.random.default_rng(0)
    labels = np.arange(80, dtype=np.int32) % 10
    noise = rng.integers(40, size=(80, 32, 32, 3))
    images = (20 * labels[:, None, None, None] + noise).astype(np.uint8)
    folder = tmp_path_factory.mktemp("data") / "cifar10"
    parts = [images[:64], labels[:64], images[:32], labels[:32]]
    write_arrays(folder, "cifar10", parts, {"version": "made up"}, num_classes=10)
    return folder


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cifar10") / "train"
    flags = [f"--workdir={workdir}", f"--data_dir={data_dir}", "--config.train.ell=2"]
    done = trainer(CONFIG.format("svag_baselines"), *flags, name="train")
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_train(trained):
    workdir, done = trained
    result = json.loads((workdir / "result.json").read_text())
    # Half an epoch of 64 images at B = 8: four effective steps, eight at ell = 2.
    assert (result["total"], result["last_record"]["step"]) == (4, 8)
    assert "8 steps, 128 examples" in done.stderr
    rows = records.read_jsonl(workdir / "runs" / "b8_ell2_seed0" / "metrics.jsonl")
    assert [row["effective_step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["gradient_noise"] > 0 and row["weight_norm"] > 0 for row in rows)


def test_another_place_of_the_same_data_is_the_same_study(trained, data_dir):
    workdir, _ = trained
    again = [f"--workdir={workdir}", f"--data_dir={data_dir}/../cifar10", "--config.train.ell=2"]
    done = trainer(CONFIG.format("svag_baselines"), *again, name="train")
    assert done.returncode == 0 and "Finished before: 1." in done.stderr


def test_data_that_are_not_there(tmp_path):
    flags = [f"--workdir={tmp_path / 'x'}", f"--data_dir={tmp_path / 'nowhere'}"]
    done = trainer(CONFIG.format("svag_baselines"), *flags, name="train")
    assert_refused(done, "python -m keras_svag.datasets.prepare cifar10", "nowhere")
    assert not (tmp_path / "x").exists()


def test_data_dir_is_not_for_digits(tmp_path):
    done = trainer("--config=configs/digits.py:quick", f"--workdir={tmp_path}", "--data_dir=/d")
    assert_refused(done, "Flag --data_dir is for data sets that are read from a folder")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("sde_validity", "svag_baselines"),
        ("linear_scaling", "linear_scaling"),
        ("noisy_gradient_descent", "ngd"),
    ],
)
def test_studies(name, figure, data_dir, tmp_path):
    flags = [f"--workdir={tmp_path / name}", f"--data_dir={data_dir}"]
    done = trainer(CONFIG.format(figure), *flags, name=name)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((tmp_path / name / "verdict.json").read_text())
    assert verdict["study"] == name and verdict["failed_runs"] == {}
    assert (tmp_path / name / "report.html").stat().st_size > 10_000
