"""docs/trackers.md: what it sends to MLflow arrives, in a store of local files."""

import json
import math
import pathlib
import re

import keras
import numpy as np
import pytest

import keras_svag

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "trackers.md"
FIT, STUDY, _ = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Reads what was sent."""
    reason = "sends records to MLflow; needs `pip install mlflow`, which the package does not"
    mlflow = pytest.importorskip("mlflow", reason=reason)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions ask for a database
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(None)


def history(client, run, name):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def test_logs_of_fit(client):
    scope = {}
    exec(compile(FIT, PAGE, "exec"), scope)
    (run,) = client.search_runs(["0"])
    logs = scope["model"].history.history
    assert {"loss", "gradient_noise", "gradient_signal", "noise_to_signal"} <= logs.keys()
    for name, values in logs.items():
        assert history(client, run, name) == list(enumerate(map(float, values)))


def test_records_of_a_study(client, tmp_path):
    def build(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

    x = np.random.default_rng(0).normal(size=(64, 4))
    sgd = keras.optimizers.SGD(0.1)
    recipe = keras_svag.Recipe(build, (x, x[:, :1]), sgd, "mse", batch_size=8, epochs=2)
    study = keras_svag.studies.Training(recipe, ell=2)
    study.run(tmp_path / "study", show_progress=False)
    records = tmp_path / "study/runs/b8_ell2_seed0/metrics.jsonl"
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    rows[0]["loss"] = None  # as a loss that was not finite
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))

    scope = {}
    exec(compile(STUDY, PAGE, "exec"), scope)
    scope["send_study"](tmp_path / "study")
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == "b8_ell2_seed0"
    assert run.data.params["ell"] == "2.0" and run.data.params["status"] == "done"
    steps = [row["effective_step"] for row in rows]
    assert history(client, run, "weight_norm") == [
        (step, row["weight_norm"]) for step, row in zip(steps, rows)
    ]
    sent = history(client, run, "loss")
    assert [step for step, _ in sent] == steps[1:] and all(math.isfinite(x) for _, x in sent)
