"""Tests of keras_svag/studies/sde_validity: the whole study, from config to verdict."""

import json
import math
import shutil

import numpy as np
import pytest
from scipy import stats

from keras_svag.datasets import DATASETS
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption
from keras_svag.studies import SDEValidity
from tests.studies.helpers import files_of, read_table, run_study, study_config
from tests.studies.synthetic import make_pool

QUANTITIES = ("weight_norm", "gradient_noise", "gradient_signal")
ELLS = [1, 2, 4, 8]


def run(config, workdir, command=("python", "study.py")):
    return run_study(config, "sde_validity", workdir, command)


def column(rows, name):
    return np.array([row[name] for row in rows])


# A finished study, looked at from outside.


def test_files(finished):
    workdir, _ = finished
    top = {path.name for path in workdir.iterdir()}
    assert top == {
        ".lock",
        "config.json",
        "environment.json",
        "figures",
        "looks.json",
        "report.html",
        "results.csv",
        "runs",
        "tensorboard",
        "verdict.json",
    }
    assert {path.name for path in (workdir / "runs").iterdir()} == {
        f"b128_ell{ell}_seed{seed}" for ell in ELLS for seed in (0, 1)
    }
    assert not [name for name in files_of(workdir) if ".tmp" in name]
    environment = records.read_sealed(workdir / "environment.json")
    assert environment["seed"] == 0 and environment["command"][-1] == "--workdir=/tmp/two words"


def test_results_are_means_over_the_window(finished):
    # 40 % to 80 % of 22 effective steps is 8.8 to 17.6; the records from step 9 to 18 are those
    # whose ends lie within one effective step of that. By hand: records 5 to 8.
    workdir, _ = finished
    table = read_table(workdir)
    assert len(table) == 8
    for row in table:
        metrics = records.read_jsonl(workdir / "runs" / row["name"] / "metrics.jsonl")
        ends = [record["effective_step"] for record in metrics]
        assert ends == [2, 4, 7, 9, 11, 13, 15, 18, 20, 22]
        lengths = [2, 2, 2, 3]
        for name in (*QUANTITIES, "train_loss"):
            expected = np.dot(column(metrics[4:8], name), lengths) / sum(lengths)
            assert row[name] == pytest.approx(expected, rel=1e-12)
        ratio = row["gradient_noise"] / row["gradient_signal"]
        assert row["noise_to_signal"] == pytest.approx(ratio)
        for name in ("train_loss", "test_loss", "test_accuracy"):
            assert row[f"final_{name}"] == metrics[-1][name]
        assert row["steps"] == metrics[-1]["step"] == 22 * row["ell"]
        assert row["gradient_evaluations"] == 2 * row["steps"] and row["status"] == "done"


def t_interval(values):
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    return {"mean": np.mean(values), "ci_low": interval.low, "ci_high": interval.high}


def test_verdict_file_follows_from_the_results(finished):
    workdir, result = finished
    verdict = records.read_json(workdir / "verdict.json")
    assert verdict == json.loads(json.dumps(records.to_json(result.details)))
    assert verdict["study"] == "sde_validity" and verdict["closeness"] == math.sqrt(2)
    assert verdict["confidence"] == 0.95 and verdict["failed_runs"] == {}
    table = read_table(workdir)
    cells = {ell: [row for row in table if row["ell"] == ell] for ell in ELLS}
    assert [setting["ell"] for setting in verdict["settings"]] == ELLS
    for setting in verdict["settings"]:
        rows = cells[setting["ell"]]
        assert (setting["batch_size"], setting["num_seeds"]) == (128, 2)
        assert setting["learning_rate"] == pytest.approx(3.2)
        for name in QUANTITIES:
            assert setting[name] == pytest.approx(t_interval(column(rows, name)))
        for name in ("train_loss", "test_accuracy", "test_loss"):
            assert setting[name] == pytest.approx(t_interval(column(rows, f"final_{name}")))
        window_loss = t_interval(column(rows, "train_loss"))
        assert setting["equilibrium_train_loss"] == pytest.approx(window_loss)
        means = [column(rows, name).mean() for name in ("gradient_noise", "gradient_signal")]
        assert setting["noise_to_signal"]["mean"] == pytest.approx(means[0] / means[1])
    (entry,) = verdict["verdicts"]
    condition = entry["necessary_condition"]
    assert condition["threshold"] == pytest.approx(1.0)
    assert condition["noise_to_signal"] == verdict["settings"][0]["noise_to_signal"]
    for name in QUANTITIES:
        means = {ell: column(cells[ell], name).mean() for ell in ELLS}
        limits = [2 * means[4] - means[2], 2 * means[8] - means[4]]
        pairs = entry["extrapolations"][name]
        assert [pair["ells"] for pair in pairs] == [[2, 4], [4, 8]]
        assert [pair["limit"]["mean"] for pair in pairs] == pytest.approx(limits)
        assert pairs[0]["disagreement"] is None
        change = (limits[1] - limits[0]) / abs(limits[1])
        assert pairs[1]["disagreement"] == pytest.approx(change)
        ratio = means[1] / (sum(limits) / 2)
        assert entry["ratios"][name]["mean"] == pytest.approx(ratio)
    assert entry["finished"] == {"1": 2, "2": 2, "4": 2, "8": 2} and entry["failed"] == {}
    for name in ("verdict", "measured_closeness", "necessary_condition"):
        assert verdict[name] == entry[name]


def test_printed_table(finished):
    workdir, result = finished
    lines = repr(result).splitlines()
    assert lines[0].split()[:7] == ["B", "ell", "seeds", "N", "G", "N/G", "R"]
    for line, setting in zip(lines[1:5], records.read_json(workdir / "verdict.json")["settings"]):
        noise = f"{setting['gradient_noise']['mean']:.4g}"
        assert line.split()[:4] == ["128", f"{setting['ell']:g}", "2", noise]
    assert "Batch size 128" in lines[-1] and result.verdict in lines[-1]


# Going on with a study.


def times_of(workdir):
    return {path: path.stat().st_mtime_ns for path in (workdir / "runs").rglob("*.*")}


def test_second_call_repeats_nothing(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    command = records.read_sealed(tmp_path / "environment.json")["command"]
    before, times = files_of(tmp_path), times_of(tmp_path)
    again = run(study_config(), tmp_path, command)
    assert records.to_json(again.details) == records.to_json(finished[1].details)
    # Everything, the figures' bytes included; and no run was written, not even the same once more.
    assert files_of(tmp_path) == before and times_of(tmp_path) == times


def test_more_seeds_keep_the_finished_runs(finished, tmp_path, monkeypatch):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(SDEValidity, "figures", lambda *_: [])  # costs seconds
    old, old_table = times_of(tmp_path), read_table(tmp_path)
    verdict = run(study_config(num_seeds=3, max_num_seeds=3), tmp_path).details
    now = times_of(tmp_path)
    assert {path: now[path] for path in old} == old
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert len(names) == 12 and {"b128_ell1_seed2", "b128_ell4_seed2"} <= names
    assert [setting["num_seeds"] for setting in verdict["settings"]] == [3, 3, 3, 3]
    table = read_table(tmp_path)
    assert [row for row in table if row["seed"] < 2] == old_table
    assert records.read_sealed(tmp_path / "config.json")["num_seeds"] == 3
    # Judged anew: a wide closeness, no run.
    wide = run(study_config(num_seeds=3, max_num_seeds=3, closeness=1e6), tmp_path).details
    assert wide["closeness"] == 1e6 and read_table(tmp_path) == table
    assert wide["settings"] == verdict["settings"] and times_of(tmp_path) == now


def test_interrupted_study_has_written_no_verdict(use_pool, tmp_path):
    class Pool(make_pool(lambda run: (1.0, 1.0, 1.0))):
        def execute(self, grid, on_steps):
            super().execute(grid[:2], on_steps)
            raise preemption.PreemptedError()

    use_pool(pool=Pool)
    with pytest.raises(preemption.PreemptedError):
        run(study_config(), tmp_path)
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"config.json", "environment.json", "runs"}
    assert not written & {"verdict.json", "results.csv", "report.html", "figures"}


# Wrong input leaves nothing behind.


BAD = {
    "ell": ({"sde_validity": {"batch_sizes": [128], "ells": [0.3, 1.0]}}, "ell=0.3"),
    "ell nan": ({"sde_validity": {"batch_sizes": [8], "ells": [1.0, math.nan]}}, "ell=nan"),
    "ell string": ({"sde_validity": {"batch_sizes": [8], "ells": [1.0, "2"]}}, "ell='2'"),
    "unknown field": ({"batch": 8}, "batch=8"),
    "depth": ({"model": {"name": "mlp", "depth": 0}}, "depth=0"),
    "norm": ({"model": {"name": "mlp", "norm": "grup"}}, "norm.*'grup'"),
    "batch size": (
        {
            "sampling": "without_replacement",
            "sde_validity": {"batch_sizes": [8, 2000], "ells": [1.0, 2.0, 4.0]},
        },
        "1437 .*batch_size=2000",
    ),
    "split": ({"dataset": {"name": "digits", "split_seed": -1}}, "split_seed|random_state"),
    "no record in the window": ({"num_records": 1, "num_checkpoints": 1}, "num_records=1"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_config_leaves_nothing(case, tmp_path):
    fields, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        run(study_config(**fields), tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_data_set_that_cannot_be_had_leaves_nothing(tmp_path, monkeypatch):
    def offline():
        raise ValueError("`dataset` must be downloaded first")

    monkeypatch.setitem(DATASETS, "offline", offline)
    with pytest.raises(ValueError, match="downloaded"):
        run(study_config(dataset={"name": "offline"}), tmp_path / "study")
    assert list(tmp_path.iterdir()) == []


def test_workdir_of_another_config_is_left_alone(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match="learning_rate: 0.2 -> 0.1"):
        run(study_config(learning_rate=0.1), tmp_path)
    assert files_of(tmp_path) == before


# Divergence.


def test_diverging_runs_are_reported_and_the_others_go_on(tmp_path):
    # Without normalization and with eta lambda = 4, SGD multiplies its weights by -3 a step;
    # at ell = 4 the step is 4 times shorter, the weights shrink to nothing, and so do N and G.
    model = {"name": "mlp", "norm": "none"}
    grid = {"batch_sizes": [128], "ells": [1.0, 4.0, 8.0]}
    config = study_config(
        model=model, weight_decay=0.125, learning_rate=2.0, sde_validity=grid, epochs=3.0
    )
    result = run(config, tmp_path)
    verdict = result.details
    table = {row["name"]: row for row in read_table(tmp_path)}
    failed = {f"b128_ell1_seed{seed}" for seed in (0, 1)}
    assert set(verdict["failed_runs"]) == failed
    for name, row in table.items():
        assert row["status"] == ("failed" if name in failed else "done")
        if name in failed:
            failure = records.read_sealed(tmp_path / "runs" / name / "result.json")
            assert f"step {failure['failed_step']}." in row["message"]
            assert row["message"] == verdict["failed_runs"][name]
            assert row["gradient_noise"] == ""
    assert verdict["verdict"] == "invalid"
    assert "diverged in every run, and SVAG in none" in verdict["verdicts"][0]["reason"]
    assert [setting["num_seeds"] for setting in verdict["settings"]] == [0, 2, 2]
    report = (tmp_path / "report.html").read_text()
    assert all(f"Run {name} diverged" in report for name in failed)
    assert "  -" in repr(result).splitlines()[1]
