"""The examples run, quickly here and as they are in the slow tests."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from examples import adam_batch_size, batch_size, finetune, functional, growing_batch
from keras_svag.datasets import Dataset

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_functional(capsys):
    results = functional.main(num_train=240, epochs=1, ells=(1, 2))
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[0] == "ell" and [row.split()[0] for row in table[1:]] == ["1", "2"]
    for result in results.values():
        assert result["val_accuracy"] > 0.3  # ten classes
        assert result["gradient_noise"] > 0 and result["weight_norm"] > 0
    # The same initial weights, other steps.
    assert results[1]["weight_norm"] != results[2]["weight_norm"]


def test_adam_batch_size(capsys):
    advice, small, large = adam_batch_size.main(num_train=640, epochs=2)
    assert advice.optimizer == "Adam" and advice.batch_size == 16 and not advice.is_theorem
    scaled = eval(advice.code, {"keras": keras}).get_config()
    # Square-root rule: learning rate by sqrt(kappa), 1 - beta by kappa = 4.
    assert scaled["learning_rate"] == pytest.approx(2e-3)
    assert scaled["beta_1"] == pytest.approx(0.6) and scaled["beta_2"] == pytest.approx(0.96)
    assert small["val_accuracy"] > 0.3 and large["val_accuracy"] > 0.3
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "val_accuracy",
        f"{small['val_accuracy']:.4f}",
        f"{large['val_accuracy']:.4f}",
    ]


@pytest.mark.slow
def test_growing_batch(capsys):
    setting = growing_batch.Setting(16, 32, 0.2, epochs=3, target=0.8)
    results = growing_batch.main(num_seeds=2, setting=setting)
    assert list(results) == ["small", "growing", "large"]
    for runs in results.values():
        for result in filter(None, runs):
            assert 0 < result["steps"] * 32 <= result["examples"]
    assert len(capsys.readouterr().out.splitlines()) >= 4


def test_images_of_the_fine_tune():
    x = np.full((1, 8, 8), -0.3, np.float32)
    x[:, :, 4:] = 0.7
    images = finetune.to_images(x)
    assert images.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(images[:, :, :8], -1, atol=1e-6)
    np.testing.assert_allclose(images[:, :, -8:], 1, atol=1e-6)


@pytest.mark.slow
def test_finetune():
    model, advice = finetune.main(num_train=64, num_test=32, head_epochs=1, epochs=1)
    assert all(layer.trainable for layer in model.layers)
    assert advice.optimizer == "Adam" and advice.batch_size == 32
    assert advice.noise.mean > 0


@pytest.mark.slow
def test_batch_size(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(256, 16, 16, 3), dtype=np.uint8)
    labels = (images[:, :8].mean((1, 2, 3)) > images[:, 8:].mean((1, 2, 3))).astype("int32")
    made_up = Dataset("cifar10", images, labels, images, labels, 10)
    monkeypatch.setattr(batch_size, "cifar10", lambda **sizes: made_up)
    words = "--num_train=256 --batch_size=4 --epochs=1 --factors 2 --policy=float32"
    advice, histories = batch_size.main(batch_size.parse([*words.split(), f"--workdir={tmp_path}"]))
    assert advice.optimizer == "AdamW" and advice.batch_size == 4
    assert list(histories) == [1, 2]
    assert all(np.isfinite(history["val_loss"]).all() for history in histories.values())
    assert "model.keras" in {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "batch_size.png").read_bytes().startswith(b"\x89PNG")
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[-4:-2]]
    assert rows == [["1", "4"], ["2", "8"]]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Function that executes a notebook in an empty folder; returns its cells by their ids."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())

    def execute(name):
        notebook = nbformat.read(ROOT / "examples" / name, as_version=4)
        nbformat.validate(notebook)
        assert not any(cell.get("outputs") for cell in notebook.cells)  # none of yesterday
        resources = {"metadata": {"path": tmp_path}}
        nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
        return {cell.id: cell for cell in notebook.cells}

    return execute


def printed(cell):
    return "".join(output["text"] for output in cell.outputs if output.get("name") == "stdout")


def shown(cell):
    [output] = [output for output in cell.outputs if output.output_type == "execute_result"]
    return output["data"]


@pytest.mark.slow
def test_notebook_of_check_sde(execute):
    cells = execute("check_sde.ipynb")
    for name in ("check", "again"):
        assert "data:image/png;base64," in shown(cells[name])["text/html"]
    text = printed(cells["verdicts"])
    assert text.count("gradient_noise") == 2 and "weight_norm" not in text
    assert set(text.split()) & {"valid", "invalid", "inconclusive"}


@pytest.mark.slow
def test_notebook_of_a_recipe(execute, tmp_path):
    cells = execute("own_recipe.ipynb")
    workdir = tmp_path / "runs" / "own_recipe"
    assert "data:image/png;base64," in shown(cells["run"])["text/html"]
    runs = sorted(path.name for path in (workdir / "runs").iterdir())
    assert runs == [f"b16_ell{ell}_seed{seed}" for ell in (1, 2, 4, 8) for seed in (0, 1)]
    assert len({(workdir / "runs" / run / "metrics.jsonl").read_bytes() for run in runs}) == 8
    # Nothing was trained for the second verdict, which is beside the first.
    assert float(printed(cells["judge"]).split()[-2]) < 1.0
    first = json.loads((workdir / "verdict.json").read_text())
    second = json.loads((workdir / "verdict_closeness-1.2.json").read_text())
    assert (first["closeness"], second["closeness"]) == (pytest.approx(2**0.5), 1.2)
    figures = list((workdir / "figures").glob("*.pdf"))
    assert len(figures) == 2
    assert all(path.read_bytes().startswith(b"%PDF") for path in figures)
    table = shown(cells["table"])["text/html"]
    assert "weight_norm" in table
    assert table.count("<tr") == 1 + 8  # the head, and a row for each run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional", "finetune", "adam_batch_size"])
def test_whole_example(name):
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
