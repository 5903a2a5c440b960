"""Tests of keras_svag/studies/linear_scaling: prediction and verdict where the truth is known."""

import csv
import io
import math

import numpy as np
import pytest
from scipy import stats

from keras_svag.engine.files import records
from keras_svag.theory.outcomes import observed_max_kappa
from tests.studies.helpers import scaling_config
from tests.studies.report_test import Page
from tests.studies.synthetic import make_pool, scaling_world

N_TRAIN = 1437
PNG = b"\x89PNG\r\n\x1a\n"


def outcomes(verdict):
    return {setting["kappa"]: setting["outcome"] for setting in verdict["settings"]}


def read_csv(workdir):
    return list(csv.DictReader(io.StringIO((workdir / "results.csv").read_text())))


# The prediction.


def test_prediction_from_the_base_runs(scaling, tmp_path):
    # N/G = 3 and C^2 = 2: 2 + 3 and 2 (1 + 3).
    verdict = scaling(scaling_world({}))
    prediction = records.read_json(tmp_path / "prediction.json")
    assert prediction["predicted_max_kappa"]["tight"]["mean"] == pytest.approx(5.0)
    assert prediction["predicted_max_kappa"]["paper"]["mean"] == pytest.approx(8.0)
    assert prediction["base_batch_size"] == 8
    assert prediction["runs"] == ["b8_ell1_seed0", "b8_ell1_seed1"]
    written = records.read_json(tmp_path / "verdict.json")
    assert written["predicted_max_kappa"] == prediction["predicted_max_kappa"]
    assert written["noise_to_signal"] == prediction["noise_to_signal"]
    assert written == records.to_json(verdict)


def test_interval_of_the_prediction_is_that_of_the_base_runs(scaling, tmp_path):
    scaling(scaling_world({}), scaling_config(num_seeds=5, max_num_seeds=5), spread=lambda _: 0.1)
    rows = [row for row in read_csv(tmp_path) if row["batch_size"] == "8"]
    noise, signal = (
        np.array([float(row[name]) for row in rows])
        for name in ("gradient_noise", "gradient_signal")
    )
    # Fieller: ends of the set of ratios q that a t test of N - q G does not reject.
    got = records.read_json(tmp_path / "prediction.json")["predicted_max_kappa"]["tight"]
    for end in (got["ci_low"], got["ci_high"]):
        q = end - 2
        t = stats.ttest_1samp(noise - q * signal, 0.0).statistic
        assert abs(t) == pytest.approx(stats.t.ppf(0.975, 4), rel=1e-9)
    assert got["mean"] == pytest.approx(2 + noise.mean() / signal.mean())


def test_prediction_is_on_disk_before_any_other_run(scaling, tmp_path):
    executed, path = [], tmp_path / "prediction.json"

    class Pool(make_pool(scaling_world({}))):
        def execute(self, grid, on_steps):
            executed.append(({run.batch_size for run in grid}, path.exists()))
            return super().execute(grid, on_steps)

    scaling(None, pool=Pool)
    assert executed == [({8}, False), ({4, 16, 32, 64}, True)]


def test_prediction_changes_with_the_base_runs_only(scaling, tmp_path):
    scaling(scaling_world({}))
    path = tmp_path / "prediction.json"
    before = (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
    # Other batch sizes, of another truth.
    scaling(scaling_world({2.0: (3.0, 1.0, 1.0)}), scaling_config(batch_sizes=(16, 128)))
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before
    scaling(scaling_world({}, noise=4.0))
    got = records.read_json(path)["predicted_max_kappa"]["tight"]["mean"]
    assert got == pytest.approx(6.0)


def test_signal_that_may_be_zero_gives_no_bound(scaling, tmp_path):
    # N = 3, G = 1 with a standard deviation of 0.9 in logs and two seeds.
    verdict = scaling(scaling_world({}), spread=lambda run: 0.9)
    tight = verdict["predicted_max_kappa"]["tight"]
    assert tight.ci_high == math.inf and tight.ci_low >= 2.0
    assert (
        records.read_json(tmp_path / "prediction.json")["predicted_max_kappa"]["tight"]["ci_high"]
        is None
    )
    assert verdict["comparison"]["bound_holds"] is not False


# What is compared: R, B N, G.


def test_noise_times_batch_size_is_what_must_stay(scaling):
    # N falls as 1/kappa: all hold. The same N everywhere is B N that grows with kappa: none does.
    verdict = scaling(scaling_world({}))
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "holds", 8: "holds"}
    assert verdict["observed_max_kappa"] == {
        "value": 8.0,
        "first_failure": None,
        "inconclusive": [],
    }
    for setting in verdict["settings"]:
        assert setting["scaled_noise"].mean == pytest.approx(24.0)
        assert setting["gradient_noise"].mean == pytest.approx(3.0 / setting["kappa"])
    same = scaling(scaling_world({k: (1.0, k, 1.0) for k in (0.5, 2.0, 4.0, 8.0)}))
    assert set(outcomes(same).values()) == {"base", "fails"}
    assert same["observed_max_kappa"]["value"] == 1.0
    assert same["observed_max_kappa"]["first_failure"] == 2.0


@pytest.mark.parametrize("which", range(3))
def test_each_of_the_three_can_fail(scaling, which):
    # 1.40 is inside a factor sqrt(2), 1.43 is not; either way round.
    for factor, outcome in [
        (1.4, "holds"),
        (1 / 1.4, "holds"),
        (1.43, "fails"),
        (1 / 1.43, "fails"),
    ]:
        factors = [1.0, 1.0, 1.0]
        factors[which] = factor
        verdict = scaling(scaling_world({4.0: factors}))
        assert outcomes(verdict)[4.0] == outcome
        setting = next(s for s in verdict["settings"] if s["kappa"] == 4)
        name = ("weight_norm", "scaled_noise", "gradient_signal")[which]
        assert setting["ratios"][name].mean == pytest.approx(factor)


def test_observed_kappa_ends_at_the_first_that_does_not_hold(scaling):
    out = (2.0, 1.0, 1.0)
    verdict = scaling(scaling_world({0.5: out, 4.0: out}))
    assert outcomes(verdict) == {0.5: "fails", 1: "base", 2: "holds", 4: "fails", 8: "holds"}
    assert verdict["observed_max_kappa"]["value"] == 2.0
    assert verdict["observed_max_kappa"]["first_failure"] == 4.0
    # kappa = 8 holds although the bound is 5: the assumptions of the theorem cannot hold here.
    assert verdict["comparison"]["bound_holds"] is False
    assert verdict["comparison"]["ratio"] == pytest.approx(2 / 5)


def test_what_is_not_decided_ends_it_too(scaling, tmp_path):
    verdict = scaling(scaling_world({}), spread=lambda run: 0.5 if run.batch_size == 32 else 0.01)
    assert outcomes(verdict)[4.0] == "inconclusive"
    assert verdict["observed_max_kappa"] == {
        "value": 2.0,
        "first_failure": None,
        "inconclusive": [4.0],
    }
    assert "Inconclusive: factor 4" in Page((tmp_path / "report.html").read_text()).text


def test_observed_kappa_by_hand():
    def sweep(**outcomes):
        rows = [(0.5, "fails"), (1.0, "base"), *((float(k[1:]), o) for k, o in outcomes.items())]
        return [{"kappa": k, "outcome": o, "num_seeds": 2} for k, o in rows]

    assert observed_max_kappa(sweep())["value"] == 1.0
    got = observed_max_kappa(sweep(k2="inconclusive", k4="holds", k8="fails", k16="fails"))
    assert got == {"value": 1.0, "first_failure": 8.0, "inconclusive": [2.0]}


def test_the_bound_is_reached(scaling):
    # The extreme case of the proof: G and B N smaller by c, just below C, R as the identity then
    # says, (G' + N') kappa over (G + N). With N/G = 2 the bound is 4: 3.99 holds, 4.02 does not.
    c = 0.9999 * math.sqrt(2)

    def truth(run):
        kappa = run.batch_size / 100
        if kappa == 1:
            return 50.0, 2.0, 1.0
        noise, signal = 2.0 / c / kappa, 1.0 / c
        return 50.0 * kappa * (signal + noise) / 3.0, noise, signal

    verdict = scaling(truth, scaling_config(base=100, batch_sizes=(399, 402)))
    assert outcomes(verdict) == {1: "base", 3.99: "holds", 4.02: "fails"}
    assert verdict["predicted_max_kappa"]["tight"].mean == pytest.approx(4.0)
    assert verdict["comparison"]["bound_holds"] is True
    assert verdict["comparison"]["ratio"] == pytest.approx(3.99 / 4)


def test_other_criteria(scaling):
    world = scaling_world({2.0: (1.0, 3.0, 1.0), 4.0: (1.0, 1.0, 3.0), 8.0: (1.5, 1.0, 1.0)})
    verdict = scaling(world, scaling_config(criterion="weight_norm"))
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "holds", 8: "fails"}
    # Test accuracy: a loss of 0.019 is allowed, one of 0.021 is not, a gain always is; 0.02 with
    # a spread over two seeds is not decided.
    lost = {4: -0.1, 8: 0.0, 16: 0.019, 32: 0.021, 64: 0.02}

    def accuracy(run):
        spread = 0.001 * run.seed if run.batch_size == 64 else 0.0
        return 0.9 - lost[run.batch_size] + spread

    verdict = scaling(world, scaling_config(criterion="test_accuracy"), accuracy=accuracy)
    assert list(outcomes(verdict).values()) == ["holds", "base", "holds", "fails", "inconclusive"]
    setting = verdict["settings"][3]
    assert setting["test_accuracy_loss"].mean == pytest.approx(0.021)
