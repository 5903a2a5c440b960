"""Tests of keras_svag/engine/processes/transfer.py: recipes on their way to worker processes."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine.processes import transfer
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.recording import Recording
from tests.trainers.command import ROOT

# Everything is of the script itself, which has no `if __name__ == "__main__"`.
SCRIPT = """
import multiprocessing
import os
import pathlib
import sys

import keras
import numpy as np
from keras import ops

import keras_svag
from keras_svag.studies import SDEValidity

print("executed")
multiprocessing.set_start_method("fork")  # workers are no forks nevertheless
folder = pathlib.Path(sys.argv[1])

def build(seed):
    if multiprocessing.parent_process() is not None:
        (folder / f"worker{os.getpid()}").write_text(pathlib.Path("/proc/self/maps").read_text())
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(4, "tanh")
    return keras.Sequential([keras.Input((8,)), hidden, keras.layers.Dense(1)])

def loss(y_true, y_pred):
    return ops.log(ops.cosh(y_pred - y_true))

def augment(x, u):
    return x + 0.1 * (u[:, :1] - 0.5)

x = np.random.default_rng(0).normal(size=(4096, 8)).astype("float32")  # 128 KiB
recipe = keras_svag.Recipe(
    build, (x, np.sin(x[:, :1])), keras.optimizers.SGD(0.05), loss, batch_size=256, epochs=1,
    augment=augment,
)
study = SDEValidity(recipe, ells=(1, 2), num_seeds=2, max_num_seeds=2, num_records=8)
study.run(folder / "study", num_workers=2, show_progress=False)
print("finished")
"""


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def make(model=build, num_examples=64, **changes):
    x = np.random.default_rng(0).normal(size=(num_examples, 4))
    sgd = keras.optimizers.SGD(0.1)
    return Recipe(model, (x, x[:, :1]), sgd, "mse", batch_size=8, epochs=1, **changes)


@pytest.mark.skipif(not pathlib.Path("/proc/self/maps").exists(), reason="reads /proc")
def test_script_is_executed_once_and_its_functions_and_arrays_are_shared(tmp_path):
    script, temporary = tmp_path / "script.py", tmp_path / "temporary"
    script.write_text(SCRIPT)
    temporary.mkdir()
    variables = {"PYTHONPATH": str(ROOT), "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, **variables, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["executed", "finished"]
    results = list(tmp_path.glob("study/runs/*/result.json"))
    assert len(results) == 4
    assert {json.loads(path.read_text())["status"] for path in results} == {"done"}
    # The large array was mapped, from a folder that is gone.
    maps = [path.read_text() for path in tmp_path.glob("worker*")]
    assert maps and all(f"{temporary}/keras_svag.tmp." in text for text in maps)
    assert not list(temporary.glob("keras_svag*"))


def test_arrays_come_back_and_large_ones_cannot_be_written_to(tmp_path):
    for num_examples, files in ((64, 0), (10_000, 1)):  # x alone has more than 64 KiB
        recipe = make(num_examples=num_examples)
        folder = tmp_path / str(num_examples)
        folder.mkdir()
        copy = transfer.unpack(transfer.pack(recipe, folder))
        for got, wanted in zip(copy.train_data, recipe.train_data, strict=True):
            np.testing.assert_array_equal(got, wanted)
            assert type(got) is np.ndarray and got.flags.writeable == (got.nbytes <= 2**16)
        assert len(list(folder.iterdir())) == files
        assert copy.facts == recipe.facts


def test_recipe_that_cannot_be_pickled_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lock = threading.Lock()

    def build_alone(seed):
        with lock:
            return build(seed)

    recipe = make(model=build_alone)
    with pytest.raises(ValueError, match="`recipe`.*num_workers=1"):
        with RunPool(recipe, Recording(), tmp_path / "study", num_workers=2):
            pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_dtype_policy_travels(tmp_path, policy):
    try:
        keras.config.set_dtype_policy(policy)
        payload = transfer.pack(make(), tmp_path)
        keras.config.set_dtype_policy("float32")
        recipe = transfer.unpack(payload)
        assert keras.config.dtype_policy().name == policy
        assert recipe.build(0).layers[-1].compute_dtype == policy.removeprefix("mixed_")
    finally:
        keras.config.set_dtype_policy("float32")
