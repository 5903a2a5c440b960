"""A study of four short runs, trained in NumPy in a moment, whose files hold no times."""

import types
import warnings

import keras
import numpy as np
from tensorboard.plugins.hparams import summary_v2

from keras_svag import Recipe
from keras_svag.engine import execution
from keras_svag.engine.files import storage, tensorboard
from keras_svag.studies import SDEValidity
from keras_svag.studies.base import study as study_module
from tests.faults.recorded_files import QuickFiles
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


def make_study():
    """Four runs of three records and two checkpoints."""
    recipe = Recipe(build, (X, X[:, :1]), keras.optimizers.SGD(0.1), "mse", 8, epochs=1.5)
    options = {"ells": (1, 2), "max_ell": 2, "num_seeds": 2, "max_num_seeds": 2}
    return SDEValidity(recipe, **options, num_records=3, num_checkpoints=2)


def patch_studies(monkeypatch):
    """Has studies train in NumPy, and leave no times."""
    monkeypatch.setattr(study_module, "RunPool", Pool)
    monkeypatch.setattr(storage, "files", QuickFiles())
    monkeypatch.setattr(SDEValidity, "figures", lambda *_: [])
    # Times are in results, event logs and the report.
    for module in (tensorboard, summary_v2):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: 0.0))
    monkeypatch.setattr(execution, "time", types.SimpleNamespace(perf_counter=lambda: 0.0))


def run(study, workdir):
    """Runs the study; returns its files."""
    Pool.trained = []
    study.run(workdir, show_progress=False, command=["study"])
    return files_of(workdir, ".lock")


def run_without_warning(study, workdir):
    """Runs the study, which finds nothing damaged; returns its files."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return run(study, workdir)
