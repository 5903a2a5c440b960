"""Tests of keras_svag/studies/weak_convergence."""

import json
import math
import shutil

import numpy as np
import pytest

from configs.weak_convergence import get_config
from keras_svag._json import to_json
from keras_svag.engine.files import records
from keras_svag.studies import load
from keras_svag.studies.weak_convergence.linear_errors import cached_errors, exact_errors
from keras_svag.studies.weak_convergence.linear_simulation import simulate
from keras_svag.theory import Interval, LinearProblem, fit_errors
from tests.oracles import linear_svag_moments
from tests.studies.helpers import build, run_study

NAME = "weak_convergence"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder and verdict of a finished quick study."""
    workdir = tmp_path_factory.mktemp("weak")
    return workdir, run_study(get_config("quick"), NAME, workdir).details


def test_order_one_by_exact_moments():
    # The named problem of the default config: learning rate 0.5, 8 effective steps.
    rows = exact_errors(build(get_config(), NAME))
    for row in rows:
        assert abs(row["order"] - 1) < 0.02
        scaled = np.array(row["scaled_errors"][-3:])
        # l e(l) = c1 + c2 / l + ...: its distance to the limit halves too.
        distance = np.abs(scaled - row["leading_error"])
        np.testing.assert_allclose(distance[1:] / distance[:-1], 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("orders", "failed", "verdict"),
    [
        ([(0.8, 1.2), (1.1, 1.4)], {}, "holds"),
        ([(0.8, 1.2), (-math.inf, math.inf)], {}, "holds"),
        ([(0.8, 1.2)], {"b64_ell1_seed0": "diverged"}, "inconclusive"),
        ([(0.8, math.inf), (-math.inf, 1.2)], {}, "inconclusive"),
        ([], {}, "inconclusive"),
        # An interval that contains 1 shows nothing if it contains 1/2 or 3/2 too.
        ([(0.3, 1.2)], {}, "inconclusive"),
        ([(0.8, 1.7)], {}, "inconclusive"),
        ([(0.8, 1.2), (1.6, 1.9)], {}, "fails"),
        ([(1.6, math.inf)], {}, "fails"),
        ([(-math.inf, 0.4)], {}, "fails"),
    ],
)
def test_verdict_needs_an_order_shown_to_be_near_one(orders, failed, verdict):
    network = [{"order": Interval(1.0, low, high)} for low, high in orders]
    details = {"simulated": [{"scores": [1.0]}], "network": network, "failed_runs": failed}
    assert build(get_config("quick"), NAME).verdict_of(details) == verdict


@pytest.mark.slow
@pytest.mark.parametrize("ell", [4, 8, 16, 32])
def test_simulation_agrees_with_the_exact_recursion(ell):
    problem = LinearProblem([0.5, 1.5, 1.0, 2.0], [1.0, -1.0, 0.5, 0.2], learning_rate=0.5)
    x = simulate(problem, ell, 1.5, 8 * ell, num_chains=50_000, seed=0)
    exact = linear_svag_moments(problem.a, problem.b, 0.5, ell, 1.5, 8 * ell)[-1]
    for power in (1, 2):
        standard_error = np.std(x**power) / np.sqrt(len(x))
        assert abs(np.mean(x**power) - exact[power - 1]) < 4 * standard_error


def test_what_a_study_leaves(study):
    workdir, verdict = study
    assert json.loads((workdir / "verdict.json").read_text())["study"] == "weak_convergence"
    for file in ("results.csv", "report.html", "figures/linear.png", "figures/network.png"):
        assert (workdir / file).stat().st_size > 1000
    assert len(list((workdir / "runs").iterdir())) == 4 * 3
    names = [row["quantity"] for row in verdict["network"]]
    assert names == ["weight_norm", "train_loss", "test_loss", "weight_function"]


def test_errors_are_differences_of_the_runs_ends(study):
    workdir, verdict = study

    def ends(kind, column):
        rows = []
        for seed in range(3):
            text = (workdir / "runs" / f"b64_{kind}_seed{seed}" / "metrics.jsonl").read_text()
            rows.append(json.loads(text.splitlines()[-1])[column])
        return np.array(rows)

    for row in verdict["network"]:
        column = row["quantity"]
        truth = 2 * ends("gauss8", column) - ends("gauss4", column)
        expected = [np.mean(ends(k, column) - truth) for k in ("ell1", "ell2")]
        np.testing.assert_allclose([error.mean for error in row["errors"]], expected)
        limit = 2 * ends("ell2", column).mean() - ends("ell1", column).mean()
        np.testing.assert_allclose(row["extrapolated"].mean, limit)
        # Every ell counts, whether its error is significant or not; four orders are corrected for.
        values = {ell: ends(f"ell{ell}", column) for ell in (1, 2)}
        fit = fit_errors(values, truth, paired=True)
        assert (row["first"], row["second"]) == (fit.first, fit.second)
        strict = fit_errors(values, truth, paired=True, confidence=1 - 0.05 / 4)
        assert row["order"] == strict.order


def test_a_run_whose_loss_overflows_counts_as_failed(study, tmp_path):
    workdir = shutil.copytree(study[0], tmp_path / "copy")
    path = workdir / "runs" / "b64_ell2_seed1" / "metrics.jsonl"
    rows = records.read_jsonl(path)
    rows[-1]["test_loss"] = None  # JSON holds what is not finite as null
    records.write_jsonl(path, rows)
    details = load(workdir).details
    assert details["failed_runs"].keys() == {"b64_ell2_seed1"}
    assert {row["num_seeds"] for row in details["network"]} == {2}


def test_simulated_part_is_consistent(study):
    for row in study[1]["simulated"]:
        deviation = np.array(row["errors"]) - row["exact_errors"]
        np.testing.assert_allclose(deviation / row["standard_errors"], row["scores"])
        assert np.abs(row["scores"]).max() < 4
        ratio = row["errors"][0] / row["errors"][1]
        order = math.log2(ratio) if ratio > 0 else math.nan
        np.testing.assert_allclose(row["order"].mean, order)


def test_simulated_part_is_not_repeated(study, monkeypatch):
    workdir, verdict = study
    monkeypatch.delattr("keras_svag.studies.weak_convergence.linear_errors.simulate")
    for row, again in zip(
        verdict["simulated"], cached_errors(build(get_config("quick"), NAME), workdir)
    ):
        assert to_json(row) == to_json(again)  # as JSON, in which NaN equals NaN


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("noise_steps", (3.0, 8.0), "noise_steps="),
        ("noise_steps", (8.0,), "noise_steps="),
        ("ells", (4.0,), r"ells=\[4.0\]"),
        ("linear_b", (1.0,), r"linear_b=\[1.0\]"),
        ("num_chains", 1, "num_chains=1"),
        ("linear_start", float("nan"), "linear_start=nan"),
    ],
)
def test_wrong_fields_leave_nothing_behind(field, value, message, tmp_path):
    config = get_config("quick").to_dict()
    config["weak_convergence"][field] = value
    with pytest.raises(ValueError, match=message):
        run_study(config, NAME, tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {"name": "mlp", "norm": "grup"}}, "norm.*'grup'"),
        ({"sampling": "shuffled_epochs"}, "sampling='shuffled_epochs'. Use"),
        (
            {"equilibrium": (0.0, 0.1), "epochs": 2.0},
            "window=(.0.0, 0.1)",
        ),
    ],
    ids=["model", "sampling", "window"],
)
def test_what_a_run_would_refuse_leaves_nothing_behind(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(get_config("quick").to_dict() | fields, NAME, tmp_path / "study")
    assert not (tmp_path / "study").exists()
