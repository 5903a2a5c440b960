"""Packages of extras: without them everything else works, and what needs them says so."""

import keras

from tests.backends import run_code

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sklearn", "tensorboard"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
STUDY = """
import keras, numpy as np
import keras_svag

def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
recipe = keras_svag.Recipe(build, (x, x[:, :1]), keras.optimizers.SGD(0.05), "mse", 4, epochs=2)
study = keras_svag.studies.SDEValidity(recipe, ells=(1, 2), num_seeds=2, max_num_seeds=2)
result = study.run(sys.argv[1], num_workers=1)
print(result.verdict)
try:
    keras_svag.datasets.digits()
except ValueError as error:
    print(error)
"""


NO_JAX = """
import sys
sys.modules["jax"] = None
try:
    import keras_svag
except ValueError as error:
    print(error)
"""


def test_a_backend_that_is_not_installed():
    output = run_code(NO_JAX, backend="jax")
    assert "'jax' is not installed" in output and "pip install 'keras-svag[jax]'" in output


def test_a_study_without_tensorboard_and_scikit_learn(tmp_path):
    code = "import sys\n" + HIDE + "sys.stderr = sys.stdout\n" + STUDY
    output = run_code(code, tmp_path, backend=keras.backend.backend())
    lines = output.splitlines()
    assert len([line for line in lines if "keras-svag[tensorboard]" in line]) == 1
    assert lines[-2] == "inconclusive"
    assert "scikit-learn" in lines[-1] and "keras-svag[digits]" in lines[-1]
    written = {path.name for path in tmp_path.rglob("*")}
    assert {"report.html", "metrics.jsonl"} <= written and "tensorboard" not in written
