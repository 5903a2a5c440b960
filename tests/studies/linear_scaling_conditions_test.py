"""Tests of keras_svag/studies/linear_scaling: sampling, equilibrium, divergence."""

import csv
import io
import math

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine.files import records
from keras_svag.studies import LinearScaling, load
from keras_svag.studies.sde_validity.equilibrium import why_no_condition
from tests.studies.helpers import build, replace_records, scaling_config
from tests.studies.report_test import Page
from tests.studies.synthetic import make_pool, scaling_world

N_TRAIN = 1437
PNG = b"\x89PNG\r\n\x1a\n"


def outcomes(verdict):
    return {setting["kappa"]: setting["outcome"] for setting in verdict["settings"]}


def read_csv(workdir):
    return list(csv.DictReader(io.StringIO((workdir / "results.csv").read_text())))


# Sampling.


@pytest.mark.filterwarnings("ignore:sampling='shuffled_epochs'")
def test_shuffled_epochs(scaling, tmp_path):
    # The bound takes N and G as logged; G as shown is corrected by (B/n) N.
    verdict = scaling(scaling_world({}), scaling_config(sampling="shuffled_epochs"))
    assert verdict["predicted_max_kappa"]["tight"].mean == pytest.approx(5.0)
    base = verdict["settings"][1]
    assert base["gradient_signal"].mean == pytest.approx(1 + 8 / N_TRAIN * 3)
    row = next(row for row in read_csv(tmp_path) if row["batch_size"] == "8")
    assert (float(row["bound_noise"]), float(row["bound_signal"])) == pytest.approx((3.0, 1.0))


def test_without_replacement(scaling):
    # S^2 = 24 and |grad L|^2 = 1 at every batch size: logged N is (S^2/B) (1 - B/n), and though B N
    # falls to 0.64 at B = 512 the rule holds. The bound has N = S^2/B, G = |grad L|^2 - S^2/n.
    def truth(run):
        return 50.0, 24 / run.batch_size * (1 - run.batch_size / N_TRAIN), 1.0

    config = scaling_config(batch_sizes=(16, 512), sampling="without_replacement")
    verdict = scaling(truth, config)
    assert outcomes(verdict) == {1: "base", 2: "holds", 64: "holds"}
    for setting in verdict["settings"]:
        assert setting["scaled_noise"].mean == pytest.approx(24 * (1 - 1 / N_TRAIN))
    expected = 2 + 3 / (1 - 24 / N_TRAIN)
    assert verdict["predicted_max_kappa"]["tight"].mean == pytest.approx(expected)


# Equilibrium.


def test_identity_is_that_of_each_batch_size(scaling):
    # R of the identity at eta = 0.2 kappa: eta (G + N) / (2 lambda - eta lambda^2).
    def truth(run):
        eta, noise = run.learning_rate, 24 / run.batch_size
        return 1.25 * eta * (1 + noise) / (2 * 5e-3 - eta * 5e-3**2), noise, 1.0

    verdict = scaling(truth)
    for setting in verdict["settings"]:
        assert setting["equilibrium"]["identity"].mean == pytest.approx(1.25)


def test_no_equilibrium_is_said(run_scaling, tmp_path):
    # R = 50 throughout is not that of the identity, and the quick runs are shorter than three
    # relaxation times: averages are over 40 % to 80 %.
    result = run_scaling(scaling_world({}))
    verdict = result.details
    assert verdict["not_in_equilibrium"] == [4, 8, 16, 32, 64]
    assert {setting["equilibrium"]["window"] for setting in verdict["settings"]} == {(0.4, 0.8)}
    text = Page((tmp_path / "report.html").read_text()).text
    assert "equilibrium not reached at B = 4, 8, 16, 32, 64" in text
    assert "Equilibrium not reached at B = 4, 8, 16, 32, 64" in repr(result)


def test_long_runs_are_averaged_from_their_equilibrium_on(scaling):
    # Constant records that fulfill the identity: from three relaxation times, 1500 steps of 3592
    # at B = 8, to the drop of the learning rate after 80 %.
    def truth(run):
        eta, noise = run.learning_rate, 24 / run.batch_size
        return eta * (1 + noise) / (2 * 5e-3 - eta * 5e-3**2), noise, 1.0

    class Rates(make_pool(truth)):
        def _execute(self, run):
            result = super()._execute(run)
            path = self._workdir / "runs" / run.name / "metrics.jsonl"
            rows = records.read_jsonl(path)
            for row in rows:
                if row["effective_step"] > math.ceil(0.8 * run.total):
                    row["learning_rate"] /= 10
            replace_records(path, rows)
            return result

    config = scaling_config(batch_sizes=(16,), epochs=20.0, num_records=60)
    assert build(config, "linear_scaling").facts.steps_at(8) == 3592
    verdict = scaling(truth, config, pool=Rates)
    for setting in verdict["settings"]:
        start, stop = setting["equilibrium"]["window"]
        assert setting["equilibrium"]["reached"] is True
        # Records are 1/60 of the run long.
        assert 1500 / 3592 <= start < 1500 / 3592 + 1 / 60 + 1e-3
        assert stop == pytest.approx(0.8, abs=1e-3)
    assert verdict["not_in_equilibrium"] == []


def test_learning_rate_that_changes_at_every_step(scaling):
    config = scaling_config(batch_sizes=(16,), num_records=60)
    config["schedule"] = {"name": "cosine"}

    class Rates(make_pool(scaling_world({}))):
        def _execute(self, run):
            result = super()._execute(run)
            path = self._workdir / "runs" / run.name / "metrics.jsonl"
            rows = records.read_jsonl(path)
            for row in rows:
                row["learning_rate"] /= row["step"]
            replace_records(path, rows)
            return result

    verdict = scaling(None, config, pool=Rates)
    for setting in verdict["settings"]:
        assert setting["equilibrium"]["reached"] is None
        assert "the learning rate changes" in setting["equilibrium"]["reason"]
        assert "`" not in setting["equilibrium"]["reason"]


# Runs that diverge.


def names(*batch_sizes, seeds=(0, 1)):
    return [f"b{size}_ell1_seed{seed}" for size in batch_sizes for seed in seeds]


def test_divergence(scaling, tmp_path):
    failed = names(64) + names(32, seeds=(2,))
    config = scaling_config(num_seeds=3, max_num_seeds=3)
    verdict = scaling(scaling_world({}), config, failed=[*failed, "b64_ell1_seed2"])
    # All of one batch size: it fails. One of three: not said to hold, though the others agree.
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "inconclusive", 8: "fails"}
    assert "1 of 6 runs failed" in verdict["settings"][3]["reason"]
    assert verdict["observed_max_kappa"]["value"] == 2.0
    assert set(verdict["failed_runs"]) == {*failed, "b64_ell1_seed2"}
    assert "b64_ell1_seed2 &lt;diverged&gt;" in (tmp_path / "report.html").read_text()


def test_no_base_run(run_scaling, tmp_path):
    result = run_scaling(scaling_world({}), failed=names(8))
    verdict = result.details
    assert verdict["observed_max_kappa"]["value"] is None
    assert verdict["comparison"]["bound_holds"] is None
    nothing = {"mean": None, "ci_low": None, "ci_high": None}
    assert records.read_json(tmp_path / "prediction.json")["predicted_max_kappa"] == {
        "tight": nothing,
        "paper": nothing,
    }
    assert set(outcomes(verdict).values()) == {"base", "inconclusive"}
    page = Page((tmp_path / "report.html").read_text()).text
    assert "Unknown: none of the runs at batch size 8 finished." in page
    assert "Observed: no run at the base batch size finished" in repr(result)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("error::UserWarning")
def test_everything_failed(scaling, tmp_path):
    verdict = scaling(scaling_world({}), draw=True, failed=names(4, 8, 16, 32, 64))
    assert len(verdict["failed_runs"]) == 10
    for file in ("scaling", "paper", "scaling_curves"):
        assert (tmp_path / "figures" / f"{file}.png").read_bytes().startswith(PNG)
    assert "NaN" not in (tmp_path / "verdict.json").read_text()


def test_one_seed_gives_no_interval(run_scaling):
    result = run_scaling(scaling_world({}), scaling_config(num_seeds=1, max_num_seeds=1))
    assert set(outcomes(result.details).values()) == {"base", "inconclusive"}
    assert "no interval" in repr(result)


def build_network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("optimizer", "sizes"),
    [
        # At most a quarter of 512 examples.
        (keras.optimizers.SGD(0.01), (1, 2, 4, 8, 16, 32, 64, 128)),
        # And 1 - kappa (1 - 0.9) must stay above 0: kappa < 10.
        (keras.optimizers.Adam(1e-3), (1, 2, 4, 8, 16)),
        (keras.optimizers.SGD(0.01, momentum=0.75), (1, 2, 4)),
    ],
)
def test_any_optimizer_by_default(optimizer, sizes):
    x = np.random.default_rng(0).normal(size=(512, 4)).astype("float32")
    recipe = Recipe(build_network, (x, x[:, :1]), optimizer, "mse", batch_size=2, epochs=1)
    study = LinearScaling(recipe, num_seeds=2, num_records=4)
    assert tuple(study.batch_sizes) == sizes
    study.check()


# Momentum: a guide, and a balance of its own.

MOMENTUM = {"name": "SVAG", "momentum": 0.9}


def with_velocity(truth, velocity):
    """A stand-in for the pool whose records also have `velocity_norm`, a function of a run."""

    class Velocity(make_pool(truth)):
        def _execute(self, run):
            result = super()._execute(run)
            path = self._workdir / "runs" / run.name / "metrics.jsonl"
            rows = [{**row, "velocity_norm": velocity(run)} for row in records.read_jsonl(path)]
            replace_records(path, rows)
            return result

    return Velocity


def momentum_config(**changes):
    return scaling_config(optimizer=MOMENTUM, batch_sizes=(16, 32, 64), **changes)


def test_identity_with_momentum_is_that_of_the_velocity(scaling):
    # Heavy-ball rule from eta = 0.2, lambda = 5e-3, b = 0.9: eta lambda times kappa, and
    # 1 - b = 0.1 kappa. R is 1.25 times what the velocity sustains, and 50.
    def velocity(run):
        kappa = run.batch_size / 8
        x = 0.2 * 5e-3 * kappa
        k = (1 - x) * (1 - 0.1 * kappa)
        return 50.0 / 1.25 * (2 * x - x**2) * (1 - k) / (1 + k)

    verdict = scaling(None, momentum_config(), pool=with_velocity(scaling_world({}), velocity))
    assert [setting["kappa"] for setting in verdict["settings"]] == [1, 2, 4, 8]
    for setting in verdict["settings"]:
        assert setting["equilibrium"]["identity"].mean == pytest.approx(1.25)
    # Records without velocity, as with Nesterov momentum: no identity.
    verdict = scaling(scaling_world({}), momentum_config())
    assert {setting["equilibrium"]["identity"] for setting in verdict["settings"]} == {None}


def test_no_identity_where_some_runs_have_no_velocity(scaling, tmp_path):
    # They were finished, or begun, by a version that did not record it.
    config = momentum_config()
    scaling(None, config, pool=with_velocity(scaling_world({}), lambda run: 1.0))
    for name in ("b16_ell1_seed0", "b64_ell1_seed1"):
        path = tmp_path / "runs" / name / "metrics.jsonl"
        rows = records.read_jsonl(path)
        del rows[0]["velocity_norm"]
        replace_records(path, rows)
    identities = {
        setting["batch_size"]: setting["equilibrium"]["identity"]
        for setting in load(tmp_path).details["settings"]
    }
    assert identities[16] is None and identities[64] is None
    assert identities[8] is not None and identities[32] is not None


def test_with_momentum_the_prediction_is_a_guide(run_scaling, tmp_path):
    # N/G = 3 gives 5, and kappa = 8 holds: for plain SGD a violation, here none.
    result = run_scaling(scaling_world({}), momentum_config())
    comparison = result.details["comparison"]
    assert comparison["bound_holds"] is None and comparison["ratio"] == pytest.approx(8 / 5)
    assert "for this optimizer N/G is no bound" in comparison["reason"]
    page = Page((tmp_path / "report.html").read_text()).text
    for text in (repr(result), page):
        assert "This is a guide, not a bound, since the optimizer is not SGD without mom" in text
        assert (
            "at most 5" not in text.replace("at most 5 %", "")
            and "strictest" not in text
            and "violated" not in text
        )
        # 5 x 0.1 and 8 x 0.1.
        assert "and below 1: 0.5 at the predicted kappa and 0.8 at the observed kappa" in text
    assert "the factor is about 5" in page
    assert "impossible" not in page and "By the bound" not in page


def test_plain_sgd_in_equilibrium_has_a_bound(run_scaling, tmp_path):
    def truth(run):
        eta, noise = run.learning_rate, 24 / run.batch_size
        return eta * (1 + noise) / (2 * 5e-3 - eta * 5e-3**2), noise, 1.0

    config = scaling_config(batch_sizes=(16,), epochs=20.0, num_records=60)
    result = run_scaling(truth, config)
    assert result.details["premises"]["equilibrium of the base runs"] is True
    page = Page((tmp_path / "report.html").read_text()).text
    assert "the factor is at most 5" in page
    for text in (repr(result), page):
        assert "strictest when measured at a small" in text and "a guide, not" not in text


def test_without_equilibrium_the_prediction_is_a_guide(run_scaling, tmp_path):
    result = run_scaling(scaling_world({}))
    page = Page((tmp_path / "report.html").read_text()).text
    assert "the factor is about 5" in page
    for text in (repr(result), page):
        assert "a guide, not a bound, since the base runs are not in equilibrium" in text


# Runs whose N/G supports a condition.


def histories(config, weight_norm=1.0, rates=None):
    """Facts, and records of two runs whose R is `weight_norm` times that of the identity."""
    facts = build(config, "linear_scaling").facts
    total = facts.steps_at(8)
    norm = weight_norm * 0.2 * 4 / (2 * 5e-3 - 0.2 * 5e-3**2)
    rows = [
        {
            "step": total * i // 60,
            "effective_step": total * i // 60,
            "learning_rate": 0.2 if rates is None else rates(i / 60),
            "weight_norm": norm,
            "gradient_noise": 3.0,
            "gradient_signal": 1.0,
        }
        for i in range(1, 61)
    ]
    return [rows, rows], facts, 8, (0.4, 0.8)


@pytest.mark.filterwarnings("ignore:sampling=.shuffled_epochs.")
def test_condition_on_noise_to_signal_needs_equilibrium():
    long = scaling_config(epochs=20.0, num_records=60)
    assert why_no_condition(*histories(long)) is None
    # R 30 % above what N and G sustain still falls.
    reason = why_no_condition(*histories(long, weight_norm=1.3))
    assert "Equilibrium not reached" in reason
    assert "rate changes" in why_no_condition(*histories(long, rates=lambda t: 0.2 * (1 - t)))
    shuffled = histories(scaling_config(epochs=20.0, sampling="shuffled_epochs"))
    assert "G is corrected" in why_no_condition(*shuffled)
    no_decay = histories(scaling_config(epochs=20.0, weight_decay=0.0))
    assert "no equilibrium" in why_no_condition(*no_decay)
