"""Where TensorFlow is not installed: models, files and a whole study on JAX."""

import json

import pytest

from tests.backends import run_code

pytestmark = pytest.mark.requires_jax  # once is enough

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""

FIT = """
import keras, numpy as np, keras_svag
from keras_svag.datasets import SampledBatches

x, y = np.random.default_rng(0).normal(size=(64, 4)), np.ones((64, 1))
model = keras_svag.from_keras(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
model.compile(keras_svag.SVAG(0.1, ell=2), "mse", jit_compile=True)
model.fit(x, y, batch_size=16, verbose=0)
history = model.fit(SampledBatches(x, y, 8), epochs=2, validation_data=(x, y), verbose=0).history
assert history["gradient_noise"][-1] > 0 and history["loss"][-1] < 1
model.save(sys.argv[1])
again = keras.saving.load_model(sys.argv[1])
assert again.optimizer.ell == 2 and int(again.optimizer.iterations) == 12
assert "tensorflow" not in sys.modules
"""

STUDY = """
from tests.studies.helpers import run_study, study_config

run_study(study_config(num_workers=1), "sde_validity", sys.argv[1])
assert "tensorflow" not in sys.modules
"""


def test_fit_save_and_load(tmp_path):
    run_code(BLOCK + FIT, tmp_path / "model.keras", backend="jax")


def test_study(tmp_path):
    run_code(BLOCK + STUDY, tmp_path, backend="jax")
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["failed_runs"] == {} and verdict["settings"]
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["backend"] == "jax"
    assert {"jax", "jaxlib", "keras"} <= set(environment["versions"])
    assert (tmp_path / "report.html").exists()
