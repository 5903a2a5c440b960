"""Tests of keras_svag/studies/linear_scaling, on studies whose truth is known."""

import csv
import io
import math

import numpy as np
import pytest
from scipy import stats

from configs.digits import get_config
from keras_svag.engine.files import records
from keras_svag.studies.linear_scaling import figures
from keras_svag.studies.linear_scaling.verdict import observed_max_kappa
from tests.studies.helpers import build, run_study
from tests.studies.report_test import Page
from tests.studies.synthetic import make_pool

N_TRAIN = 1437
PNG = b"\x89PNG\r\n\x1a\n"


def scaling_config(batch_sizes=(4, 16, 32, 64), base=8, **changes):
    """The quick config with a sweep; fields of its part for this study, or others, replaced."""
    config = get_config("quick").to_dict()
    study = config["linear_scaling"]
    study["batch_sizes"] = batch_sizes
    study |= {name: changes.pop(name) for name in list(changes) if name in study}
    config["learning_rate"] *= base / config["base_batch_size"]
    optimizer = {"name": "SVAG"}
    return config | {"base_batch_size": base, "optimizer": optimizer} | changes


@pytest.fixture
def run_synthetic(tmp_path, use_pool):
    """Runs a study on records with a known truth; returns its `Result`."""

    def start(truth, config=None, **options):
        use_pool(truth, **options)
        return run_study(config or scaling_config(), "linear_scaling", tmp_path)

    return start


@pytest.fixture
def synthetic(run_synthetic):
    """The same; returns the dict of `verdict.json`."""
    return lambda *arguments, **options: run_synthetic(*arguments, **options).details


def scaling_world(factors, noise=3.0, signal=1.0, base=8):
    """`(R, N, G)` with B N constant, but at each kappa of `factors` times its three numbers."""

    def truth(run):
        kappa = run.batch_size / base
        r, n, g = factors.get(kappa, (1.0, 1.0, 1.0))
        return 50.0 * r, noise / kappa * n, signal * g

    return truth


def outcomes(verdict):
    return {setting["kappa"]: setting["outcome"] for setting in verdict["settings"]}


def read_csv(workdir):
    return list(csv.DictReader(io.StringIO((workdir / "results.csv").read_text())))


# The prediction.


def test_prediction_from_the_base_runs(synthetic, tmp_path):
    # N/G = 3 and C^2 = 2: 2 + 3 and 2 (1 + 3).
    verdict = synthetic(scaling_world({}))
    prediction = records.read_json(tmp_path / "prediction.json")
    assert prediction["predicted_max_kappa"]["tight"]["mean"] == pytest.approx(5.0)
    assert prediction["predicted_max_kappa"]["paper"]["mean"] == pytest.approx(8.0)
    assert prediction["base_batch_size"] == 8
    assert prediction["runs"] == ["b8_ell1_seed0", "b8_ell1_seed1"]
    written = records.read_json(tmp_path / "verdict.json")
    assert written["predicted_max_kappa"] == prediction["predicted_max_kappa"]
    assert written["noise_to_signal"] == prediction["noise_to_signal"]
    assert written == records.to_json(verdict)


def test_interval_of_the_prediction_is_that_of_the_base_runs(synthetic, tmp_path):
    synthetic(scaling_world({}), scaling_config(num_seeds=5, max_num_seeds=5), spread=lambda _: 0.1)
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


def test_prediction_is_on_disk_before_any_other_run(synthetic, tmp_path):
    executed, path = [], tmp_path / "prediction.json"

    class Pool(make_pool(scaling_world({}))):
        def execute(self, grid, on_steps):
            executed.append(({run.batch_size for run in grid}, path.exists()))
            return super().execute(grid, on_steps)

    synthetic(None, pool=Pool)
    assert executed == [({8}, False), ({4, 16, 32, 64}, True)]


def test_prediction_changes_with_the_base_runs_only(synthetic, tmp_path):
    synthetic(scaling_world({}))
    path = tmp_path / "prediction.json"
    before = (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
    # Other batch sizes, of another truth.
    synthetic(scaling_world({2.0: (3.0, 1.0, 1.0)}), scaling_config(batch_sizes=(16, 128)))
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before
    synthetic(scaling_world({}, noise=4.0))
    got = records.read_json(path)["predicted_max_kappa"]["tight"]["mean"]
    assert got == pytest.approx(6.0)


def test_signal_that_may_be_zero_gives_no_bound(synthetic, tmp_path):
    # N = 3, G = 1 with a standard deviation of 0.9 in logs and two seeds.
    verdict = synthetic(scaling_world({}), spread=lambda run: 0.9)
    tight = verdict["predicted_max_kappa"]["tight"]
    assert tight.ci_high == math.inf and tight.ci_low >= 2.0
    assert (
        records.read_json(tmp_path / "prediction.json")["predicted_max_kappa"]["tight"]["ci_high"]
        is None
    )
    assert verdict["comparison"]["bound_holds"] is not False


# What is compared: R, B N, G.


def test_noise_times_batch_size_is_what_must_stay(synthetic):
    # N falls as 1/kappa: all hold. The same N everywhere is B N that grows with kappa: none does.
    verdict = synthetic(scaling_world({}))
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "holds", 8: "holds"}
    assert verdict["observed_max_kappa"] == {
        "value": 8.0,
        "first_failure": None,
        "inconclusive": [],
    }
    for setting in verdict["settings"]:
        assert setting["scaled_noise"].mean == pytest.approx(24.0)
        assert setting["gradient_noise"].mean == pytest.approx(3.0 / setting["kappa"])
    same = synthetic(scaling_world({k: (1.0, k, 1.0) for k in (0.5, 2.0, 4.0, 8.0)}))
    assert set(outcomes(same).values()) == {"base", "fails"}
    assert same["observed_max_kappa"]["value"] == 1.0
    assert same["observed_max_kappa"]["first_failure"] == 2.0


@pytest.mark.parametrize("which", range(3))
def test_each_of_the_three_can_fail(synthetic, which):
    # 1.40 is inside a factor sqrt(2), 1.43 is not; either way round.
    for factor, outcome in [
        (1.4, "holds"),
        (1 / 1.4, "holds"),
        (1.43, "fails"),
        (1 / 1.43, "fails"),
    ]:
        factors = [1.0, 1.0, 1.0]
        factors[which] = factor
        verdict = synthetic(scaling_world({4.0: factors}))
        assert outcomes(verdict)[4.0] == outcome
        setting = next(s for s in verdict["settings"] if s["kappa"] == 4)
        name = ("weight_norm", "scaled_noise", "gradient_signal")[which]
        assert setting["ratios"][name].mean == pytest.approx(factor)


def test_observed_kappa_ends_at_the_first_that_does_not_hold(synthetic):
    out = (2.0, 1.0, 1.0)
    verdict = synthetic(scaling_world({0.5: out, 4.0: out}))
    assert outcomes(verdict) == {0.5: "fails", 1: "base", 2: "holds", 4: "fails", 8: "holds"}
    assert verdict["observed_max_kappa"]["value"] == 2.0
    assert verdict["observed_max_kappa"]["first_failure"] == 4.0
    # kappa = 8 holds although the bound is 5: the theorem's premises cannot be true here.
    assert verdict["comparison"]["bound_holds"] is False
    assert verdict["comparison"]["ratio"] == pytest.approx(2 / 5)


def test_what_is_not_decided_ends_it_too(synthetic, tmp_path):
    verdict = synthetic(scaling_world({}), spread=lambda run: 0.5 if run.batch_size == 32 else 0.01)
    assert outcomes(verdict)[4.0] == "inconclusive"
    assert verdict["observed_max_kappa"] == {
        "value": 2.0,
        "first_failure": None,
        "inconclusive": [4.0],
    }
    assert "Not decided: 4" in Page((tmp_path / "report.html").read_text()).text


def test_observed_kappa_by_hand():
    def sweep(**outcomes):
        rows = [(0.5, "fails"), (1.0, "base"), *((float(k[1:]), o) for k, o in outcomes.items())]
        return [{"kappa": k, "outcome": o, "num_seeds": 2} for k, o in rows]

    assert observed_max_kappa(sweep())["value"] == 1.0
    got = observed_max_kappa(sweep(k2="inconclusive", k4="holds", k8="fails", k16="fails"))
    assert got == {"value": 1.0, "first_failure": 8.0, "inconclusive": [2.0]}


def test_the_bound_is_reached(synthetic):
    # The extreme case of the proof: G and B N smaller by c, just below C, R as the identity then
    # says, (G' + N') kappa over (G + N). With N/G = 2 the bound is 4: 3.99 holds, 4.02 does not.
    c = 0.9999 * math.sqrt(2)

    def truth(run):
        kappa = run.batch_size / 100
        if kappa == 1:
            return 50.0, 2.0, 1.0
        noise, signal = 2.0 / c / kappa, 1.0 / c
        return 50.0 * kappa * (signal + noise) / 3.0, noise, signal

    verdict = synthetic(truth, scaling_config(base=100, batch_sizes=(399, 402)))
    assert outcomes(verdict) == {1: "base", 3.99: "holds", 4.02: "fails"}
    assert verdict["predicted_max_kappa"]["tight"].mean == pytest.approx(4.0)
    assert verdict["comparison"]["bound_holds"] is True
    assert verdict["comparison"]["ratio"] == pytest.approx(3.99 / 4)


def test_other_criteria(synthetic):
    world = scaling_world({2.0: (1.0, 3.0, 1.0), 4.0: (1.0, 1.0, 3.0), 8.0: (1.5, 1.0, 1.0)})
    verdict = synthetic(world, scaling_config(criterion="weight_norm"))
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "holds", 8: "fails"}
    # Test accuracy: a loss of 0.019 is allowed, one of 0.021 is not, a gain always is; 0.02 with
    # a spread over two seeds is not decided.
    lost = {4: -0.1, 8: 0.0, 16: 0.019, 32: 0.021, 64: 0.02}

    def accuracy(run):
        spread = 0.001 * run.seed if run.batch_size == 64 else 0.0
        return 0.9 - lost[run.batch_size] + spread

    verdict = synthetic(world, scaling_config(criterion="test_accuracy"), accuracy=accuracy)
    assert list(outcomes(verdict).values()) == ["holds", "base", "holds", "fails", "inconclusive"]
    setting = verdict["settings"][3]
    assert setting["test_accuracy_loss"].mean == pytest.approx(0.021)


# Sampling.


@pytest.mark.filterwarnings("ignore:sampling='shuffled_epochs'")
def test_shuffled_epochs(synthetic, tmp_path):
    # The bound takes N and G as logged; G as shown is corrected by (B/n) N.
    verdict = synthetic(scaling_world({}), scaling_config(sampling="shuffled_epochs"))
    assert verdict["predicted_max_kappa"]["tight"].mean == pytest.approx(5.0)
    base = verdict["settings"][1]
    assert base["gradient_signal"].mean == pytest.approx(1 + 8 / N_TRAIN * 3)
    row = next(row for row in read_csv(tmp_path) if row["batch_size"] == "8")
    assert (float(row["bound_noise"]), float(row["bound_signal"])) == pytest.approx((3.0, 1.0))


def test_without_replacement(synthetic):
    # S^2 = 24 and |grad L|^2 = 1 at every batch size: logged N is (S^2/B) (1 - B/n), and though B N
    # falls to 0.64 at B = 512 the rule holds. The bound has N = S^2/B, G = |grad L|^2 - S^2/n.
    def truth(run):
        return 50.0, 24 / run.batch_size * (1 - run.batch_size / N_TRAIN), 1.0

    config = scaling_config(batch_sizes=(16, 512), sampling="without_replacement")
    verdict = synthetic(truth, config)
    assert outcomes(verdict) == {1: "base", 2: "holds", 64: "holds"}
    for setting in verdict["settings"]:
        assert setting["scaled_noise"].mean == pytest.approx(24 * (1 - 1 / N_TRAIN))
    expected = 2 + 3 / (1 - 24 / N_TRAIN)
    assert verdict["predicted_max_kappa"]["tight"].mean == pytest.approx(expected)


# Equilibrium.


def test_identity_is_that_of_each_batch_size(synthetic):
    # R of the identity at eta = 0.2 kappa: eta (G + N) / (2 lambda - eta lambda^2).
    def truth(run):
        eta, noise = run.learning_rate, 24 / run.batch_size
        return 1.25 * eta * (1 + noise) / (2 * 5e-3 - eta * 5e-3**2), noise, 1.0

    verdict = synthetic(truth)
    for setting in verdict["settings"]:
        assert setting["equilibrium"]["identity"].mean == pytest.approx(1.25)


def test_no_equilibrium_is_said(run_synthetic, tmp_path):
    # R = 50 throughout is not that of the identity, and the quick runs are shorter than three
    # relaxation times: averages are over 40 % to 80 %.
    result = run_synthetic(scaling_world({}))
    verdict = result.details
    assert verdict["not_in_equilibrium"] == [4, 8, 16, 32, 64]
    assert {setting["equilibrium"]["window"] for setting in verdict["settings"]} == {(0.4, 0.8)}
    text = Page((tmp_path / "report.html").read_text()).text
    assert "equilibrium not reached at B = 4, 8, 16, 32, 64" in text
    assert "Equilibrium not reached at B = 4, 8, 16, 32, 64" in repr(result)


def test_long_runs_are_averaged_from_their_equilibrium_on(synthetic):
    # Constant records that fulfil the identity: from three relaxation times, 1500 steps of 3592
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
            records.write_jsonl(path, rows)
            return result

    config = scaling_config(batch_sizes=(16,), epochs=20.0, num_records=60)
    assert build(config, "linear_scaling").facts.steps_at(8) == 3592
    verdict = synthetic(truth, config, pool=Rates)
    for setting in verdict["settings"]:
        start, stop = setting["equilibrium"]["window"]
        assert setting["equilibrium"]["reached"] is True
        # Records are 1/60 of the run long.
        assert 1500 / 3592 <= start < 1500 / 3592 + 1 / 60 + 1e-3
        assert stop == pytest.approx(0.8, abs=1e-3)
    assert verdict["not_in_equilibrium"] == []


# Runs that diverge.


def names(*batch_sizes, seeds=(0, 1)):
    return [f"b{size}_ell1_seed{seed}" for size in batch_sizes for seed in seeds]


def test_divergence(synthetic, tmp_path):
    failed = names(64) + names(32, seeds=(2,))
    config = scaling_config(num_seeds=3, max_num_seeds=3)
    verdict = synthetic(scaling_world({}), config, failed=[*failed, "b64_ell1_seed2"])
    # All of one batch size: it fails. One of three: not said to hold, though the others agree.
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "inconclusive", 8: "fails"}
    assert "1 of 3 runs diverged" in verdict["settings"][3]["reason"]
    assert verdict["observed_max_kappa"]["value"] == 2.0
    assert set(verdict["failed_runs"]) == {*failed, "b64_ell1_seed2"}
    assert "b64_ell1_seed2 &lt;diverged&gt;" in (tmp_path / "report.html").read_text()


def test_no_base_run(run_synthetic, tmp_path):
    result = run_synthetic(scaling_world({}), failed=names(8))
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
    assert "How far batch size 8 can be scaled is unknown: none of its runs finished." in page
    assert "Observed: holds up to -" in repr(result)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("error::UserWarning")
def test_everything_failed(synthetic, tmp_path):
    verdict = synthetic(scaling_world({}), draw=True, failed=names(4, 8, 16, 32, 64))
    assert len(verdict["failed_runs"]) == 10
    for file in ("scaling", "scaling_curves"):
        assert (tmp_path / "figures" / f"{file}.png").read_bytes().startswith(PNG)
    assert "NaN" not in (tmp_path / "verdict.json").read_text()


def test_one_seed_gives_no_interval(run_synthetic):
    result = run_synthetic(scaling_world({}), scaling_config(num_seeds=1, max_num_seeds=1))
    assert set(outcomes(result.details).values()) == {"base", "inconclusive"}
    assert "no interval" in repr(result)


# Figures and report.


def test_figure_shows_the_verdict(run_synthetic):
    world = scaling_world({8.0: (2.0, 0.5, 1.0)})
    result = run_synthetic(world, draw=True, spread=lambda run: 0.01)
    verdict = result.details
    axes = result.plot("scaling").axes
    assert len(axes) == len(figures.SCALING) + 1  # and test accuracy
    for axis, (name, _) in zip(axes, figures.SCALING):
        points = [
            line for line in axis.lines if line.get_marker() in "Dox" and len(line.get_xdata())
        ]
        assert [line.get_xdata()[0] for line in points] == [0.5, 1, 2, 4, 8]
        assert [line.get_marker() for line in points] == ["o", "D", "o", "o", "x"]
        for line, setting in zip(points, verdict["settings"]):
            assert line.get_ydata()[0] == setting[name].mean
        labels = [line.get_label() for line in axis.lines]
        assert f"predicted (tight) {verdict['predicted_max_kappa']['tight'].mean:.3g}" in labels
        assert "observed: holds up to 4" in labels
    curves = result.plot("scaling_curves").axes[0]
    assert [line.get_label() for line in curves.lines] == [f"B = {b}" for b in (4, 8, 16, 32, 64)]
    # 2 epochs, whatever the batch size.
    for line in curves.lines:
        assert line.get_xdata()[-1] == pytest.approx(2 * N_TRAIN / 1000, rel=0.02)


def test_report(synthetic, tmp_path):
    synthetic(scaling_world({8.0: (2.0, 1.0, 1.0)}), spread=lambda run: 0.01)
    text = Page((tmp_path / "report.html").read_text()).text
    order = [
        "How far does the linear scaling rule hold?",
        "Batch size 8 can be multiplied by 4 , the learning rate being scaled along",
        "The first that fails is 8",
        "Before any other run began",
        "lies below the tight bound",
        "What to do next",
        "Batch size 32 with learning rate",
        "theorem for SGD without momentum",
        "Against the base runs",
        "All settings",
        "Equilibrium",
        "How it was made",
    ]
    positions = [text.find(words) for words in order]
    assert -1 not in positions, dict(zip(order, positions))
    assert positions == sorted(positions)
    assert "None" not in text.split("How it was made")[0] and "nan" not in text


def test_printed_table(run_synthetic):
    lines = repr(run_synthetic(scaling_world({8.0: (2.0, 1.0, 1.0)}))).splitlines()
    assert lines[0].split()[:5] == ["B", "kappa", "seeds", "B", "N"]
    assert [line.split()[:3] for line in lines[1:6]] == [
        [str(b), f"{b / 8:g}", "2"] for b in (4, 8, 16, 32, 64)
    ]
    assert [line.split()[-1] for line in lines[1:6]] == ["holds", "base", "holds", "holds", "fails"]
    assert "Predicted largest kappa (tight): 5 +- 0" in lines
    assert "Observed: holds up to 4, first fails at 8" in lines


# The grid, and wrong input.


def test_grid_has_the_base_and_scales_the_learning_rate():
    config = scaling_config(batch_sizes=[64, 4], num_seeds=3, max_num_seeds=3)
    specs = build(config, "linear_scaling").specs({})
    assert {spec.batch_size for spec in specs} == {4, 8, 64}
    for batch_size in (4, 8, 64):
        cell = [spec for spec in specs if spec.batch_size == batch_size]
        assert [spec.seed for spec in cell] == [0, 1, 2]
        assert {spec.ell for spec in cell} == {1.0}
        assert cell[0].learning_rate == pytest.approx(0.2 * batch_size / 8)
        assert cell[0].total == round(2 * N_TRAIN / batch_size)


def test_base_alone_gives_the_prediction(synthetic, tmp_path):
    verdict = synthetic(scaling_world({}), scaling_config(batch_sizes=(8,)))
    assert verdict["observed_max_kappa"]["value"] == 1.0
    assert "larger ones would show" in verdict["comparison"]["reason"]
    assert (tmp_path / "prediction.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": ()}, "linear_scaling.batch_sizes.*empty"),
        ({"batch_sizes": (8, 0)}, "batch_size=0"),
        ({"criterion": "loss"}, "criterion.*'loss'"),
        ({"phase": "late"}, "phase.*'late'"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"sampling": "fixed_order"}, "sampling.*'fixed_order'"),
        ({"model": {"name": "mlp", "norm": "grup"}}, "norm.*'grup'"),
        ({"num_records": 1}, "num_records=1"),
        (
            {"sampling": "without_replacement", "batch_sizes": (8, 2000)},
            "1437 .*batch_size=2000",
        ),
        (
            {"sampling": "without_replacement", "batch_sizes": (8, N_TRAIN)},
            "batch_size=1437",
        ),
    ],
    ids=str,
)
def test_wrong_input_leaves_nothing_behind(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(scaling_config(**changes), "linear_scaling", tmp_path / "study")
    assert not (tmp_path / "study").exists()
