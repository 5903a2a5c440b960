"""The examples run, quickly here and as they are in the slow tests."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from examples import adam_batch_size, finetune, functional

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
def test_notebook():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(ROOT / "examples" / "check_sde.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # none that may be of yesterday
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": ROOT}})
    client.execute()
    cells = {cell.id: cell for cell in notebook.cells}
    for name in ("check", "again"):
        [output] = cells[name].outputs
        assert "data:image/png;base64," in output["data"]["text/html"]
    printed = "".join(output["text"] for output in cells["verdicts"].outputs)
    assert printed.count("weight_norm") == 2
    assert set(printed.split()) & {"valid", "invalid", "inconclusive"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["functional", "finetune", "adam_batch_size"])
def test_whole_example(name):
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
