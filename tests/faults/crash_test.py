"""A crash between any two file operations: the same command ends with the identical files."""

import types
import warnings

import keras
import numpy as np
import pytest
from tensorboard.plugins.hparams import summary_v2

from keras_svag import Recipe
from keras_svag.engine import execution
from keras_svag.engine.files import storage, tensorboard
from keras_svag.studies import SDEValidity
from keras_svag.studies.base import study as study_module
from tests.faults.recorded_files import Disk, QuickFiles, RecordingFiles, crashes
from tests.studies.helpers import files_of

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)


class NumpyProgram:
    """A program whose state is three numbers: linear regression, trained in NumPy."""

    steps_per_segment = 3

    def __init__(self, recipe):
        self.recipe = recipe

    def start(self, ell, seed):
        self._x, self._sum, self._count = np.random.default_rng(seed).normal(size=3), 0.0, 0

    def state(self):
        return {
            "model": [self._x.copy()],
            "optimizer": [],
            "metrics": [np.array([self._sum, self._count])],
        }

    def restore(self, state):
        self._x = state["model"][0].copy()
        self._sum, self._count = state["metrics"][0].tolist()

    def draw(self, seed, start, end):
        return ([np.random.default_rng([seed, step]).normal(size=3) for step in range(start, end)],)

    def advance(self, noises, reset_metrics):
        if reset_metrics:
            self._sum = self._count = 0
        for noise in noises:
            self._sum += float(self._x @ self._x)
            self._count += 1
            self._x = 0.9 * self._x + 0.1 * noise
        mean = self._sum / self._count
        names = ("gradient_noise", "gradient_signal", "noise_to_signal")
        return len(noises), {"loss": mean, **dict.fromkeys(names, 1 + mean)}

    def weight_norm(self):
        return float(self._x @ self._x)

    def velocity_norm(self):
        return None

    def weight_function(self):
        return float(np.tanh(self._x).mean())

    def learning_rates(self, ell, start, end):
        return np.full(end - start, 0.1)

    def evaluate(self):
        return {"train_loss": self.weight_norm(), "test_loss": 2 * self.weight_norm()}


class Pool:
    """Executes runs on a `NumpyProgram`, and notes those that it trains."""

    trained = []

    def __init__(self, recipe, recording, workdir, num_workers, vectorize_seeds):
        self._recipe, self._recording, self._workdir = recipe, recording, workdir

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def execute(self, grid, on_steps):
        return {run.name: self._execute(run) for run in grid}

    def _execute(self, run):
        def get_program():
            self.trained.append(run.name)
            return NumpyProgram(self._recipe)

        return execution.execute(run, get_program, self._recording, self._workdir)

    def call_all(self, calls):
        for call in calls:
            call()


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


@pytest.fixture
def run(monkeypatch):
    """Runs a small study in a folder: four runs of three records and two checkpoints."""
    monkeypatch.setattr(study_module, "RunPool", Pool)
    monkeypatch.setattr(storage, "files", QuickFiles())
    monkeypatch.setattr(SDEValidity, "figures", lambda *_: [])
    # Times are in results, event logs and the report.
    for module in (tensorboard, summary_v2):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: 0.0))
    monkeypatch.setattr(execution, "time", types.SimpleNamespace(perf_counter=lambda: 0.0))
    recipe = Recipe(build, (X, X[:, :1]), keras.optimizers.SGD(0.1), "mse", 8, epochs=1.5)
    options = {"ells": (1, 2), "max_ell": 2, "num_seeds": 2, "max_num_seeds": 2}
    study = SDEValidity(recipe, **options, num_records=3, num_checkpoints=2)

    def start(workdir):
        Pool.trained = []
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # nothing is ever found damaged
            study.run(workdir, show_progress=False, command=["study"])
        return files_of(workdir, ".lock")

    return start


@pytest.fixture
def recorded(run, tmp_path, monkeypatch):
    """Files that the study leaves, and the operations that led to them."""
    layer = RecordingFiles(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "files", layer)
        layer.root.mkdir()
        return run(layer.root), layer.log


def assert_same_after(run, folder, operations, mode, expected):
    disk = Disk(operations, is_half=mode == "half")
    folder.mkdir()
    disk.restore(folder, mode)
    finished = {name.split("/")[1] for name in disk.files(mode) if name.endswith("/result.json")}
    left = run(folder)
    assert sorted(left) == sorted(expected), (len(operations), mode)
    different = [name for name in expected if left[name] != expected[name]]
    assert different == [], (len(operations), mode)
    assert not finished & set(Pool.trained), (len(operations), mode)


def test_layer_records_all_that_the_study_leaves(recorded):
    expected, operations = recorded
    assert Disk(operations).files("killed") == expected


def test_e13_what_is_finished_survives_a_power_cut(recorded):
    expected, operations = recorded
    survived = Disk(operations).files("power cut")
    lost = [name for name in expected if survived.get(name) != expected[name]]
    # Event logs are copies of the records, which checkpoints hold too.
    assert [name for name in lost if "tensorboard/" not in name] == []
    assert {"verdict.json", "looks.json", "results.csv", "report.html"} <= survived.keys()


def test_e13_crash_between_any_two_operations_of_a_few(run, recorded, tmp_path):
    expected, operations = recorded
    for number, (count, mode) in enumerate(list(crashes(operations))[::29]):
        assert_same_after(run, tmp_path / str(number), operations[:count], mode, expected)


@pytest.mark.slow
def test_e13_crash_between_any_two_operations(run, recorded, tmp_path):
    expected, operations = recorded
    moments = list(crashes(operations))
    for number, (count, mode) in enumerate(moments):
        assert_same_after(run, tmp_path / str(number), operations[:count], mode, expected)
    print(f"{len(operations)} operations, {len(moments)} crashes")
