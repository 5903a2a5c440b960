"""Extensions from outside the package: the number of files that a new part takes.

An optimizer: one. A data set: none. A study: two, of which one is a line of a trainer. A verdict
rule: one. Each test writes those files into an empty folder and uses them as a user would.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TFDS = ROOT.parent / "shared" / "tfds"

RECIPE = """
import keras
import numpy as np
import keras_svag

def build(seed):
    keras.utils.set_random_seed(seed)
    hidden = keras.layers.Dense(8, "tanh")
    return keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(1)])

def make_recipe(optimizer=None):
    x = np.random.default_rng(0).normal(size=(128, 4))
    return keras_svag.Recipe(
        build, (x, np.sin(x[:, :1])), optimizer or keras.optimizers.SGD(0.02), "mse",
        batch_size=8, epochs=2,
    )
"""

OPTIMIZER = """
import keras
from keras_svag.optimizers import AmplificationMixin
from keras_svag.theory.scaling_rules import ScalingRule

@keras.saving.register_keras_serializable(package="mine")
class SVAGLion(AmplificationMixin, keras.optimizers.Lion):
    scaling_rule = ScalingRule(
        "square_root", {"learning_rate": 0.5, "weight_decay": 0.5}, ("beta_1", "beta_2")
    )

    def __init__(self, learning_rate=0.001, ell=1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self._init_amplification(ell)
"""

STUDY = '''
import dataclasses
from keras_svag.studies import Study
from keras_svag.studies.base.table import column, failed_runs

@dataclasses.dataclass(frozen=True, kw_only=True)
class FinalLoss(Study):
    """Mean loss at the end."""

    limit: float = 1.0
    name = "final_loss"
    title = "Final loss:"
    own_fields = ("limit",)

    def specs(self, plan):
        return [self.make_spec(self.facts.batch_size, seed=s) for s in range(self.num_seeds)]

    def evaluate(self, specs, results, workdir):
        table = self.summarize(specs, results, workdir)
        loss = sum(column(table, "final_train_loss")) / len(table)
        verdict = "below" if loss < self.limit else "above"
        details = {"study": self.name, "verdict": verdict, "loss": loss}
        return {**details, "failed_runs": failed_runs(table)}, table

    def figures(self, table, details, workdir):
        return []

    def format_table(self, details):
        return f"loss {details['loss']:.3g}: {details['verdict']} {self.limit:g}"

    def recommend(self, details):
        return ["Train longer."]

    def titles(self, table):
        return {}
'''

TRAINER = """
import final_loss
from trainers import flags

if __name__ == "__main__":
    flags.run_study("final_loss")
"""

VERDICT_RULE = '''
import dataclasses
from keras_svag.studies import SDEValidity
from keras_svag.theory import judge_sde

@dataclasses.dataclass(frozen=True, kw_only=True)
class Suspicious(SDEValidity):
    """Calls everything invalid."""

    name = "suspicious"

    def decide(self, values, look):
        found = judge_sde(values, self.closeness, look=look)
        return dataclasses.replace(found, verdict="invalid", reason="is not to be trusted.")
'''


def run(folder, *arguments):
    """Runs Python in a folder; on failure, shows its output."""
    path = os.pathsep.join([str(ROOT), str(folder)])
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return len(files)


def test_an_optimizer_is_one_file(tmp_path):
    write(tmp_path, recipe=RECIPE)
    added = write(tmp_path, lion=OPTIMIZER)
    code = (
        "import keras, keras_svag, lion, recipe\n"
        "from keras_svag.studies import SDEValidity\n"
        "recipe = recipe.make_recipe(keras.optimizers.Lion(0.001))\n"
        "study = SDEValidity(recipe, ells=(1, 2, 4), num_seeds=2, max_num_seeds=2,\n"
        "                    num_records=10)\n"
        "result = study.run('out', num_workers=2, show_progress=False)\n"
        "print(result.details['optimizer'], round(recipe.facts.learning_rate_at(32), 6))\n"
        "print(keras_svag.scale_optimizer(keras.optimizers.Lion(0.001), 4).learning_rate.numpy())\n"
    )
    assert added == 1
    name, rate, scaled = run(tmp_path, "-c", code).split()[-3:]
    assert name == "SVAGLion"
    np.testing.assert_allclose([float(rate), float(scaled)], [0.002, 0.002], rtol=1e-6)
    settings = json.loads((tmp_path / "out" / "verdict.json").read_text())["settings"]
    assert [s["num_seeds"] for s in settings] == [2, 2, 2]


@pytest.mark.slow
@pytest.mark.skipif(not TFDS.is_dir(), reason="needs the folder of prepared data sets")
def test_a_data_set_is_no_file(tmp_path):
    run(
        tmp_path,
        *("-m", "trainers.sde_validity", "--config=configs/tfds.py:size=tiny,norm=gn"),
        *("--workdir=out", f"--data_dir={TFDS}", "--config.dataset.tfds_name=fashion_mnist"),
        *("--config.dataset.mean=0.286,", "--config.dataset.std=0.353,"),
        *("--config.sde_validity.ells=1,", "--config.epochs=8"),
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dataset"]["tfds_name"] == "fashion_mnist"
    rows = (tmp_path / "out" / "runs" / "b8_ell1_seed0" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(row)["train_loss"] for row in rows]
    assert losses[-1] < 0.9 * losses[0]  # it learns


def test_a_study_is_two_files(tmp_path):
    write(tmp_path, recipe=RECIPE)
    added = write(tmp_path, final_loss=STUDY, trainer=TRAINER)
    assert added == 2
    out = run(
        tmp_path,
        *("trainer.py", "--recipe=recipe.py:make_recipe", "--workdir=out"),
        *("--config.num_seeds=2", "--config.num_workers=1"),
    )
    assert "loss" in out and (tmp_path / "out" / "report.html").exists()
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert verdict["verdict"] == ("below" if verdict["loss"] < 1 else "above")
    code = (
        "import final_loss; from keras_svag.studies import load; "
        "print(load('out').judge(window=(0.2, 0.9)).verdict)"
    )
    assert run(tmp_path, "-c", code).split()[-1] == verdict["verdict"]


def test_a_verdict_rule_is_one_file(tmp_path):
    write(tmp_path, recipe=RECIPE)
    added = write(tmp_path, suspicious=VERDICT_RULE)
    code = (
        "import recipe, suspicious\n"
        "study = suspicious.Suspicious(recipe.make_recipe(), ells=(1, 2, 4), num_seeds=2,\n"
        "                              num_records=10)\n"
        "print(study.run('out', num_workers=1, show_progress=False).verdict)\n"
    )
    assert added == 1 and run(tmp_path, "-c", code).split()[-1] == "invalid"
