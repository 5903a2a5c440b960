"""Tests of trainers/linear_scaling.py, run as a user runs it."""

import csv
import math
import shutil

import matplotlib.image
import numpy as np
import pytest
from scipy import stats

from configs.digits import get_config
from tests.studies.helpers import files_of, one_sided_level, run_study
from tests.studies.report_test import Page
from tests.trainers.command import load, trainer

QUICK = "--config=configs/digits.py:quick"
SIZES = (4, 8, 64)
COMPARED = ("weight_norm", "scaled_noise", "gradient_signal")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The quick study: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("quick") / "scaling"
    done = trainer(QUICK, f"--workdir={workdir}", name="linear_scaling")
    assert done.returncode == 0, done.stderr
    return workdir, done


def table(workdir):
    with open(workdir / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows, batch_size, name):
    """A column of the runs at one batch size."""
    return np.array([float(row[name]) for row in rows if row["batch_size"] == str(batch_size)])


def test_what_it_prints(study):
    workdir, done = study
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["B", "kappa", "seeds"]
    rows = [line.split()[:3] for line in lines[1:4]]
    assert rows == [[str(b), f"{b / 8:g}", "2"] for b in SIZES]
    assert any(line.startswith("Predicted largest kappa (tight): ") for line in lines)
    assert lines[-1] == f"Report: {workdir / 'report.html'}"
    # 2 epochs of 1437 examples: 718, 359 and 45 steps, two seeds, two gradients a step.
    assert "To do: 6 runs, 2,244 steps, 4,488 gradients of a batch, 34,496 examples." in done.stderr
    assert 2 * (718 + 359 + 45) == 2244 and 4 * (718 * 4 + 359 * 8 + 45 * 64) == 34496
    assert "34.5k/34.5k" in done.stderr and "Traceback" not in done.stderr


def test_files(study):
    workdir, _ = study
    files = set(files_of(workdir))
    expected = {"config.json", "environment.json", "prediction.json", "report.html", "results.csv"}
    expected |= {"verdict.json", "looks.json"}
    expected |= {f"figures/{name}.png" for name in ("scaling", "paper", "scaling_curves")}
    expected |= {"tensorboard/events.out.tfevents.0.keras_svag", ".lock"}
    for batch_size in SIZES:
        for seed in (0, 1):
            folder = f"runs/b{batch_size}_ell1_seed{seed}"
            names = ("metrics.jsonl", "result.json", "checkpoint/latest.npz")
            names += ("tensorboard/events.out.tfevents.0.keras_svag",)
            expected |= {f"{folder}/{name}" for name in names}
    assert files == expected
    config = load(workdir / "config.json")
    assert config["study"] == "linear_scaling" and "sde_validity" not in config
    assert config["linear_scaling"]["batch_sizes"] == [4, 64]


def test_prediction_came_before_the_other_runs(study):
    workdir, _ = study
    predicted = (workdir / "prediction.json").stat().st_mtime_ns
    for batch_size in SIZES:
        for path in workdir.glob(f"runs/b{batch_size}_*/result.json"):
            assert (path.stat().st_mtime_ns < predicted) == (batch_size == 8)


def test_prediction_is_that_of_the_base_runs(study):
    workdir, _ = study
    rows = table(workdir)
    noise, signal = (numbers(rows, 8, name) for name in ("gradient_noise", "gradient_signal"))
    ratio = noise.mean() / signal.mean()
    prediction = load(workdir / "prediction.json")
    tight, paper = (prediction["predicted_max_kappa"][form] for form in ("tight", "paper"))
    assert tight["mean"] == pytest.approx(2 + ratio)
    assert paper["mean"] == pytest.approx(2 * (1 + ratio))
    assert tight["ci_low"] >= 2 and (tight["ci_high"] is None or tight["ci_high"] > tight["mean"])


def test_verdict_follows_from_the_results(study):
    workdir, _ = study
    verdict, rows = load(workdir / "verdict.json"), table(workdir)
    assert verdict["study"] == "linear_scaling" and verdict["criterion"] == "closeness"
    assert verdict["closeness"] == math.sqrt(2) and verdict["base_batch_size"] == 8
    assert (
        verdict["predicted_max_kappa"] == load(workdir / "prediction.json")["predicted_max_kappa"]
    )
    assert [s["batch_size"] for s in verdict["settings"]] == list(SIZES)
    assert [s["kappa"] for s in verdict["settings"]] == [0.5, 1.0, 8.0]
    for setting in verdict["settings"]:
        batch_size = setting["batch_size"]
        assert setting["learning_rate"] == pytest.approx(0.2 * batch_size / 8)
        assert setting["num_seeds"] == 2
        for name in (*COMPARED, "gradient_noise"):
            values = numbers(rows, batch_size, name)
            interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
            assert setting[name] == pytest.approx(
                {"mean": values.mean(), "ci_low": interval.low, "ci_high": interval.high}
            )
        noise = numbers(rows, batch_size, "gradient_noise")
        np.testing.assert_allclose(numbers(rows, batch_size, "scaled_noise"), batch_size * noise)
        # Two epochs are no equilibrium: means over 40 % to 80 %.
        assert setting["equilibrium"]["window"] == [0.4, 0.8]
        if batch_size == 8:
            assert setting["outcome"] == "base" and setting["ratios"] == {}
            continue
        assert setting["outcome"] in ("holds", "fails", "inconclusive")
        for name in COMPARED:
            values = [numbers(rows, b, name) for b in (batch_size, 8)]
            ratio = setting["ratios"][name]
            assert ratio["mean"] == pytest.approx(values[0].mean() / values[1].mean())
            # An end that two seeds cannot tell is 0 or None.
            ends = [ratio[end] for end in ("ci_low", "ci_high") if ratio[end]]
            levels = [one_sided_level(*values, end) for end in ends]
            np.testing.assert_allclose(levels, 0.025, rtol=1e-6)
    assert set(verdict["observed_max_kappa"]) == {"value", "first_failure", "inconclusive"}
    assert verdict["failed_runs"] == {}


def test_figures_show_something(study):
    for path in study[0].glob("figures/*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        image = matplotlib.image.imread(path)[..., :3]
        height, width, _ = image.shape
        assert width > 800 and height > 200
        assert len(np.unique(np.round(255 * image) @ [1, 256, 65536])) > 50  # colours
        assert (image.min(axis=2) < 0.95).mean() > 0.01  # not an empty page


def test_report_needs_nothing_from_outside(study):
    text = (study[0] / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text
    assert text.count("<figure>") == 3 and Page(text).links == []
    page = Page(text).text
    assert f"python -m trainers.linear_scaling {QUICK} --workdir={study[0]}" in page
    assert "How far does the linear scaling rule hold?" in page


def test_second_call_repeats_nothing(study, tmp_path):
    shutil.copytree(study[0], tmp_path, dirs_exist_ok=True)

    def times():
        paths = [*(tmp_path / "runs").rglob("*.*"), tmp_path / "prediction.json"]
        return {path: path.stat().st_mtime_ns for path in paths}

    before, times_before = files_of(tmp_path), times()
    command = load(tmp_path / "environment.json")["command"]
    run_study(get_config("quick"), "linear_scaling", tmp_path, command)
    after = files_of(tmp_path, "environment.json", "report.html")  # the device list may differ
    assert [name for name in after if after[name] != before[name]] == []
    assert times() == times_before
