"""Tests of trainers/sde_validity.py, run as a user runs it."""

import csv
import json
import math

import keras
import matplotlib.image
import numpy as np
import pytest

from configs.digits import get_config
from tests.studies.report_test import Page
from tests.trainers.command import ROOT, assert_refused, load, trainer

QUICK = "--config=configs/digits.py:quick"
CELLS = [(b, ell) for b in (32, 128) for ell in (1, 2, 4, 8)]
MEASURED = (
    "test_accuracy",
    "train_loss",
    "weight_norm",
    "gradient_noise",
    "gradient_signal",
    "noise_to_signal",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The quick study: its folder and what it printed."""
    workdir = tmp_path_factory.mktemp("quick") / "digits"
    done = trainer(QUICK, f"--workdir={workdir}", "--config.num_checkpoints=1", is_fresh=True)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_what_it_prints(study):
    workdir, done = study
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["B", "ell", "seeds", "N"]
    assert [line.split()[:2] for line in lines[1:9]] == [[str(b), str(ell)] for b, ell in CELLS]
    for batch_size in (32, 128):
        assert any(line.startswith(f"Batch size {batch_size}") for line in lines)
    assert lines[-1] == f"Report: {workdir / 'report.html'}"
    # Nothing but our own lines: who is talking, what is to do, that it is done.
    first, todo, *progress, last = done.stderr.splitlines()
    assert first == "keras_svag 0.1.0: SDE validity of mlp on digits. Starting Keras ..."
    assert todo.startswith("To do: 16 runs on 1 worker, ")
    assert all(" of 16 runs" in line for line in progress)
    assert last.startswith("16 runs finished, ") and "\r" not in done.stderr


def test_files(study):
    workdir, _ = study
    files = {p.relative_to(workdir).as_posix() for p in workdir.rglob("*") if p.is_file()}
    expected = {"config.json", "environment.json", "report.html", "results.csv", "verdict.json"}
    expected |= {f"figures/{name}.png" for name in ("convergence", "curves_b32", "curves_b128")}
    expected |= {"tensorboard/events.out.tfevents.0.keras_svag", ".lock", "looks.json"}
    for batch_size, ell in CELLS:
        for seed in (0, 1):
            folder = f"runs/b{batch_size}_ell{ell}_seed{seed}"
            names = ("metrics.jsonl", "result.json", "checkpoint/latest.npz")
            names += ("tensorboard/events.out.tfevents.0.keras_svag",)
            expected |= {f"{folder}/{name}" for name in names}
    assert files == expected


def test_config_and_environment(study):
    workdir, _ = study
    expected = get_config("quick")
    expected.num_checkpoints = 1  # the override
    got = load(workdir / "config.json")
    assert got.pop("sha256")
    wanted = json.loads(expected.to_json())
    for other in ("branched_batch_size", "linear_scaling", "noisy_gradient_descent", "train"):
        del wanted[other]
    wanted["optimizer"] = {"name": "SVAG"}  # without what is not set, or of other schedules
    wanted["schedule"] = {"name": "step", "decay_at": [0.8], "decay_factor": 0.1}
    assert got == {"study": "sde_validity", **wanted}
    environment = load(workdir / "environment.json")
    assert environment["command"] == [
        "python",
        "-m",
        "trainers.sde_validity",
        QUICK,
        f"--workdir={workdir}",
        "--config.num_checkpoints=1",
    ]
    assert environment["seed"] == 0 and environment["backend"] == keras.backend.backend()
    assert environment["devices"] and environment["versions"]["keras"]


def is_interval(value):
    """Mean and interval: numbers, or null where there is none; in order."""
    assert list(value) == ["mean", "ci_low", "ci_high"], value
    numbers = (value["ci_low"], value["mean"], value["ci_high"])
    known = [number for number in numbers if number is not None]
    return known == sorted(known) and all(isinstance(number, float) for number in known)


def test_verdict(study):
    verdict = load(study[0] / "verdict.json")
    verdicts = {"valid", "invalid", "inconclusive"}
    assert verdict["study"] == "sde_validity" and verdict["verdict"] in verdicts
    assert verdict["closeness"] == math.sqrt(2)
    assert is_interval(verdict["measured_closeness"])
    for entry in (verdict, *verdict["verdicts"]):
        condition = entry["necessary_condition"]
        assert list(condition) == ["noise_to_signal", "threshold", "holds"]
        assert is_interval(condition["noise_to_signal"])
        assert condition["threshold"] == pytest.approx(1.0)
        assert condition["holds"] in (True, False, None)
    assert [entry["batch_size"] for entry in verdict["verdicts"]] == [32, 128]
    for entry in verdict["verdicts"]:
        assert entry["verdict"] in verdicts and entry["reason"].endswith(".")
        assert set(entry["ratios"]) == {"weight_norm", "gradient_noise", "gradient_signal"}
        assert all(is_interval(ratio) for ratio in entry["ratios"].values())
    assert [(s["batch_size"], s["ell"]) for s in verdict["settings"]] == CELLS
    for setting in verdict["settings"]:
        assert setting["learning_rate"] == pytest.approx(0.2 * setting["batch_size"] / 8)
        assert setting["num_seeds"] == 2
        assert all(is_interval(setting[name]) for name in MEASURED)
    assert verdict["failed_runs"] == {}


def test_results(study):
    with open(study[0] / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["batch_size"]), float(r["ell"])) for r in rows[::2]] == CELLS
    assert [int(row["seed"]) for row in rows] == [0, 1] * 8
    for row in rows:
        steps = round(2 * 1437 / int(row["batch_size"])) * float(row["ell"])
        assert int(row["steps"]) == steps and int(row["gradient_evaluations"]) == 2 * steps
        for name in ("weight_norm", "gradient_noise", "train_loss", "final_test_accuracy"):
            assert math.isfinite(float(row[name])) and float(row[name]) > 0


def test_records(study):
    for path in study[0].glob("runs/*/metrics.jsonl"):
        lines = path.read_text().splitlines()
        assert len(lines) == 10
        rows = [json.loads(line) for line in lines]
        for name in ("step", "effective_step", "time"):
            assert np.all(np.diff([row[name] for row in rows]) > 0)
        for row in rows:
            assert {
                "loss",
                "accuracy",
                "gradient_noise",
                "gradient_signal",
                "noise_to_signal",
                "weight_norm",
                "learning_rate",
                "train_loss",
                "test_loss",
                "test_accuracy",
            } <= set(row)
        # The network learns: ten classes, 2 epochs.
        assert rows[-1]["test_accuracy"] > 0.8 > rows[0]["accuracy"]


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
    assert text.lstrip().lower().startswith("<!doctype html>")
    assert "http://" not in text and "https://" not in text
    assert text.count("<figure>") == 3 and Page(text).links == []
    assert f"python -m trainers.sde_validity {QUICK} --workdir={study[0]}" in text


def snapshot(workdir):
    return {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}


def test_workdir_of_another_config(study):
    workdir, _ = study
    before = snapshot(workdir)
    done = trainer(QUICK, f"--workdir={workdir}", "--config.learning_rate=0.1")
    assert_refused(
        done,
        "learning_rate: 0.2 -> 0.1",
        "num_checkpoints: 1 -> 2",
        f"workdir='{workdir}'",
    )
    assert snapshot(workdir) == before


def test_ell_that_is_too_small(tmp_path):
    done = trainer(QUICK, f"--workdir={tmp_path / 'x'}", "--config.sde_validity.ells=(0.4,1.0)")
    assert_refused(done, "ell=0.4")
    assert list(tmp_path.iterdir()) == []


def test_torch_backend(tmp_path):
    done = trainer(QUICK, f"--workdir={tmp_path / 'x'}", KERAS_BACKEND="torch")
    assert_refused(
        done,
        "backend='torch'",
        "KERAS_BACKEND to tensorflow or jax",
    )
    assert list(tmp_path.iterdir()) == []


def test_study_leaves_the_clone_alone(study):
    assert not {"runs", "figures", "verdict.json"} & {path.name for path in ROOT.iterdir()}
