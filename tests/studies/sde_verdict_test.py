"""Tests of keras_svag/studies/sde_validity: verdicts on studies whose truth is known."""

import dataclasses
import math

import pytest

from keras_svag import theory
from keras_svag.engine.files import records
from keras_svag.recipe import TrainingFacts
from keras_svag.studies import SDEValidity, load
from tests.studies.helpers import build, read_table, replace_records, run_study, study_config
from tests.studies.synthetic import make_pool

FACTS = TrainingFacts(
    "SVAG", 0.0, "linear", 0.2, 1.0, 5e-3, 0.0, 8, 2.0, 1437, "with_replacement", True, True
)


def run(config, workdir, command=("python", "study.py")):
    return run_study(config, "sde_validity", workdir, command)


@pytest.fixture
def synthetic(tmp_path, use_pool):
    """Runs a study of two batch sizes on records with a known truth."""

    def start(truth, config=None, **options):
        use_pool(truth, **options)
        grid = {"batch_sizes": [8, 128], "ells": [1.0, 2.0, 4.0, 8.0]}
        return run(study_config(sde_validity=grid) | (config or {}), tmp_path).details

    return start


def first_order(run):
    """On the SDE at batch size 8; errors of order 1/l at 128, G of SGD four times too large."""
    if run.batch_size == 8:
        return 100.0, 2.0, 0.5
    return 100.0, 0.1 * (1 - 0.1 / run.ell), 0.5 * (1 + 3 / run.ell)


def test_valid_here_and_invalid_there(synthetic, tmp_path):
    verdict = synthetic(first_order, spread=lambda run: 0.002)
    small, large = verdict["verdicts"]
    assert (small["verdict"], large["verdict"]) == ("valid", "invalid")
    assert verdict["verdict"] == "invalid"
    assert verdict["necessary_condition"] == large["necessary_condition"]
    # These made-up runs do not balance R, so they are in no equilibrium, which the condition needs.
    for entry in (small, large):
        assert entry["necessary_condition"]["holds"] is None
        assert "quilibrium" in entry["condition_not_applied"]
    assert small["necessary_condition"]["noise_to_signal"].mean == pytest.approx(4, rel=0.02)
    # Extrapolation removes the error: the limit of G is 0.5, SGD has four times that.
    assert large["ratios"]["gradient_signal"].mean == pytest.approx(4.0, rel=0.02)
    assert large["ratios"]["gradient_noise"].mean == pytest.approx(0.9, rel=0.02)
    assert large["measured_closeness"].mean == pytest.approx(4.0, rel=0.02)
    assert large["reason"].startswith("differs from the SDE in gradient signal G (ratio ")
    page = (tmp_path / "report.html").read_text()
    assert "At batch size 8, you can rely on the SDE" in page
    assert "At batch size 128, do not rely on the SDE" in page


def test_extrapolation_takes_the_three_largest_ell(synthetic):
    # Were ell = 1 used, the quadratic part would show. The mean of 2 Q(4) - Q(2) and 2 Q(8) - Q(4)
    # leaves -1/2 (1/8 + 1/32) of it.
    verdict = synthetic(lambda run: (1.0, 1.0, 1 + 1 / run.ell + 1 / run.ell**2))
    entry = verdict["verdicts"][0]
    ratio = entry["ratios"]["gradient_signal"]
    assert ratio.mean == pytest.approx(3 / (1 - (1 / 8 + 1 / 32) / 2), rel=1e-12)
    first, second = entry["extrapolations"]["gradient_signal"]
    assert (first["ells"], second["ells"]) == ((2.0, 4.0), (4.0, 8.0))
    assert first["limit"].mean == pytest.approx(1 - 1 / 8)
    assert second["limit"].mean == pytest.approx(1 - 1 / 32)
    assert second["disagreement"] == pytest.approx((1 / 8 - 1 / 32) / (1 - 1 / 32))


def test_seeds_are_added_only_where_they_help(synthetic):
    # Batch size 8 is settled by two seeds; at 128 the spread is too large for any number here.
    grids = []
    verdict = synthetic(
        lambda run: (1.0, 1.0, 1.0),
        {"num_seeds": 2, "max_num_seeds": 7},
        spread=lambda run: 0.002 if run.batch_size == 8 else 1.0,
        grids=grids,
    )
    seeds = [
        [sum(name.startswith(f"b{b}_ell1_") for name in grid) for b in (8, 128)] for grid in grids
    ]
    assert seeds == [[2, 2], [2, 4], [2, 7]]  # doubled, up to the limit
    assert [entry["verdict"] for entry in verdict["verdicts"]] == ["valid", "inconclusive"]
    assert {(s["batch_size"], s["num_seeds"]) for s in verdict["settings"]} == {(8, 2), (128, 7)}
    assert [entry["look"] for entry in verdict["verdicts"]] == [1, 3]
    assert len(verdict["extensions"]) == 2 and all("seeds now" in s for s in verdict["extensions"])


def test_seeds_stop_when_a_verdict_is_there(synthetic):
    grids = []
    verdict = synthetic(
        lambda run: (1.0, 1.0, 1.0),
        {"num_seeds": 2, "max_num_seeds": 64},
        spread=lambda run: 0.05,
        grids=grids,
    )
    assert verdict["verdict"] == "valid"
    assert 1 < len(grids) < 6


def slow(run):
    """Far from asymptotic at l = 8, where the limit of G is still out of sight."""
    return 1.0, 1.0, 1 + 0.5 * 6 / (run.ell + 5)


def test_a_larger_ell_is_added_where_the_limit_is_not_known(synthetic):
    grids = []
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 32.0}
    verdict = synthetic(slow, {"sde_validity": grid}, spread=lambda run: 0.001, grids=grids)
    ells = [sorted({name.split("_")[1] for name in grid}) for grid in grids]
    assert "ell16" in ells[1] and "ell16" not in ells[0]
    assert "ell = 16 is added" in verdict["extensions"][0]
    # The limit is 1, and SGD at 1.5 is outside.
    assert verdict["verdict"] != "valid"


def test_no_ell_is_added_beyond_the_largest(synthetic):
    grids = []
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 8.0}
    config = {"sde_validity": grid, "num_seeds": 2, "max_num_seeds": 2}
    verdict = synthetic(slow, config, spread=lambda run: 0.001, grids=grids)
    assert len(grids) == 1 and verdict["verdicts"][0]["remedy"] == "ell"


def test_seeds_that_take_the_place_of_an_ell_are_no_matter_of_spread(synthetic):
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 8.0}
    config = {"sde_validity": grid, "num_seeds": 2, "max_num_seeds": 4}
    verdict = synthetic(slow, config, spread=lambda run: 0.001)
    [sentence] = verdict["extensions"]
    assert "4 seeds now" in sentence and "max_ell=8 allows no larger ell" in sentence
    assert "spread" not in sentence


def test_the_same_runs_are_the_same_look_and_more_seeds_another(use_pool, tmp_path):
    use_pool(lambda run: (1.0, 1.0, 1.0), spread=lambda run: 0.002)
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0]}

    def look(num_seeds):
        config = study_config(sde_validity=grid, num_seeds=num_seeds, max_num_seeds=num_seeds)
        return run(config, tmp_path).details["verdicts"][0]["look"]

    assert [look(2), look(2), look(3), look(3), look(2)] == [1, 1, 2, 2, 1]
    result = load(tmp_path)
    assert result.details["verdicts"][0]["look"] == 2
    assert result.judge(closeness=1.2).details["verdicts"][0]["look"] == 2


def test_weight_norm_is_left_out_without_scale_invariance():
    facts = dataclasses.replace(FACTS, scale_invariant=False)
    assert SDEValidity(facts).quantities() == ["gradient_noise", "gradient_signal"]
    assert SDEValidity(FACTS).quantities()[0] == "weight_norm"


def test_criteria_are_judged_too(synthetic):
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0]}

    def verdict(limit):
        accuracy = {"final_test_accuracy": {"difference": limit}}
        fields = {"sde_validity": grid | {"criteria": accuracy}}
        return synthetic(
            lambda run: (1.0, 1.0, 1.0),
            fields,
            spread=lambda run: 0.002,
            accuracy=lambda run: 0.9 - 0.05 / run.ell,
        )

    assert verdict(0.2)["verdict"] == "valid"
    entry = verdict(0.01)["verdicts"][0]
    assert entry["verdict"] == "invalid" and "final test accuracy (difference" in entry["reason"]


def test_report_names_criteria_failed_runs_and_both_limits(synthetic, tmp_path):
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 8.0}
    accuracy = {"criteria": {"final_test_accuracy": {"difference": 0.02}}}
    fields = {"sde_validity": grid | accuracy, "num_seeds": 3, "max_num_seeds": 3}
    failed = ["b8_ell2_seed1"]
    synthetic(lambda run: (1.0, 1.0, 1 + 1 / run.ell**2), fields, failed=failed)
    page = " ".join((tmp_path / "report.html").read_text("utf-8").split())
    assert "(final test accuracy: within a difference of 0.02)" in page
    assert "<th>final test accuracy difference</th>" in page
    assert "<th>gradient signal ratio</th>" in page
    assert "failed runs: 1 at ell = 2)" in page and "<td>2 (1 failed)</td>" in page
    # 2 (1 + 1/16) - (1 + 1/4) and 2 (1 + 1/64) - (1 + 1/16), which is 9.7 % more.
    for words in ('<td class="text">2, 4, 8</td>', "<td>0.875<br>", "<td>0.9688<br>", "+9.7 %"):
        assert words in page
    assert "2 (1 failed)" in repr(load(tmp_path))


def test_a_criterion_on_what_is_not_recorded_keeps_the_runs(synthetic, tmp_path):
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 8.0}
    typo = {"criteria": {"final_test_acuracy": {"difference": 0.02}}}
    message = "final_test_accuracy.*Received.*'final_test_acuracy'.*runs are kept"
    with pytest.raises(ValueError, match=message):
        synthetic(first_order, {"sde_validity": grid | typo})
    assert not (tmp_path / "verdict.json").exists()
    assert synthetic(first_order, {"sde_validity": grid})["verdict"]


@pytest.mark.parametrize(
    "criteria",
    [
        "train_loss",
        ["train_loss"],
        {"train_loss": 1.2},
        {"train_loss": {"factor": 2}},
        {"train_loss": {"ratio": 0.5}},
        {"train_loss": {}},
    ],
)
def test_wrong_criteria(criteria):
    with pytest.raises(ValueError, match=r"Received: (criteria|ratio)="):
        SDEValidity(FACTS, criteria=criteria)


def test_too_few_ell_to_extrapolate(synthetic):
    grids = []
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0]}
    verdict = synthetic(
        first_order, {"sde_validity": grid, "max_num_seeds": 16}, spread=lambda _: 0.1, grids=grids
    )
    assert verdict["verdict"] == "inconclusive" and verdict["verdicts"][0]["ratios"] == {}
    assert "takes 3 ells above 1, and there are 1" in verdict["verdicts"][0]["reason"]
    assert len(grids) == 1  # more seeds would not settle that


@pytest.mark.parametrize("mode", ["shuffled_epochs", "fixed_order"])
def test_no_verdict_where_there_is_no_sde(synthetic, tmp_path, mode):
    with pytest.warns(UserWarning, match=f"sampling='{mode}'"):
        verdict = synthetic(first_order, {"sampling": mode, "max_num_seeds": 16})
    for entry in verdict["verdicts"]:
        assert entry["verdict"] == "inconclusive"
        assert f"sampling='{mode}' has no SDE limit" in entry["reason"]
        assert "Use sampling='with_replacement'" in entry["reason"]
    # Halves of one epoch share no example: E <g1, g2> = G - S^2/n, and N estimates S^2/B.
    row = next(row for row in read_table(tmp_path) if row["name"] == "b128_ell1_seed0")
    expected = 2.0 + (0.09 * 128 / 1437 if mode == "shuffled_epochs" else 0)
    assert row["gradient_signal"] == pytest.approx(expected, rel=1e-12)
    assert row["noise_to_signal"] == pytest.approx(0.09 / expected)


def test_no_verdict_is_valid_with_a_failed_run(synthetic):
    failed = ("b8_ell4_seed0", "b8_ell1_seed1")
    verdict = synthetic(
        lambda run: (1.0, 1.0, 1.0),
        {"num_seeds": 4, "max_num_seeds": 16},
        spread=lambda run: 0.002,
        failed=failed,
    )
    small, large = verdict["verdicts"]
    assert (small["verdict"], large["verdict"]) == ("inconclusive", "valid")
    assert small["failed"] == {"1": 1, "4": 1} and small["finished"]["1"] == 3
    assert "1 at ell = 1 and 1 at ell = 4 failed" in small["reason"]
    counts = {
        (s["batch_size"], s["ell"]): (s["num_seeds"], s["failed"]) for s in verdict["settings"]
    }
    assert [counts[8, ell] for ell in (1, 2, 4, 8)] == [(3, 1), (4, 0), (3, 1), (4, 0)]
    assert verdict["failed_runs"] == {name: f"{name} <diverged>" for name in failed}


def test_sgd_that_diverges_where_svag_does_not_is_invalid(synthetic):
    failed = [f"b8_ell1_seed{seed}" for seed in range(2)]
    verdict = synthetic(lambda run: (1.0, 1.0, 1.0), {"num_seeds": 2}, failed=failed)
    assert verdict["verdicts"][0]["verdict"] == "invalid"
    assert "diverged in every run, and SVAG in none" in verdict["verdicts"][0]["reason"]


def test_everything_failed(synthetic, tmp_path):
    names = [f"b{b}_ell{ell}_seed{s}" for b in (8, 128) for ell in (1, 2, 4, 8) for s in (0, 1)]
    verdict = synthetic(first_order, failed=names, draw=True)
    assert verdict["verdict"] == "inconclusive" and set(verdict["failed_runs"]) == set(names)
    assert "fewer than two runs finished" in verdict["verdicts"][0]["reason"]
    assert verdict["necessary_condition"]["holds"] is None
    assert "NaN" not in (tmp_path / "verdict.json").read_text()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "convergence.png",
        "curves_b8.png",
        "curves_b128.png",
    }
    report = (tmp_path / "report.html").read_text()
    assert "b8_ell1_seed0 &lt;diverged&gt;" in report and "<diverged>" not in report


def test_one_seed_gives_no_interval(synthetic):
    verdict = synthetic(first_order, {"num_seeds": 1, "max_num_seeds": 1})
    assert verdict["verdict"] == "inconclusive"
    assert "fewer than two runs" in verdict["verdicts"][0]["reason"]
    assert "no interval" in build(study_config()).format_table(verdict)


def test_condition_that_cannot_be_decided(synthetic):
    # N/G near its threshold of 1 with a wide interval: neither holds nor fails.
    verdict = synthetic(lambda run: (1.0, 1.0, 1.0), spread=lambda run: 0.3)
    for entry in verdict["verdicts"]:
        interval = entry["necessary_condition"]["noise_to_signal"]
        assert interval.ci_low < 1 < interval.ci_high
        assert entry["necessary_condition"]["holds"] is None


def test_signal_that_is_not_positive(use_pool, tmp_path):
    # The mean of <g1, g2> may come out at zero or below: no ratio, no crash, no verdict.
    make = make_pool(first_order)

    class Pool(make):
        def _execute(self, run):
            result = super()._execute(run)
            path = tmp_path / "runs" / run.name / "metrics.jsonl"
            rows = records.read_jsonl(path)
            for row in rows:
                row["gradient_signal"] = -0.1 * run.seed
                row["noise_to_signal"] = math.inf
            replace_records(path, rows)
            return result

    use_pool(pool=Pool, draw=True)
    grid = {"batch_sizes": [128], "ells": [1.0, 2.0, 4.0, 8.0]}
    verdict = run(study_config(sde_validity=grid, max_num_seeds=2), tmp_path).details
    assert {row["noise_to_signal"] for row in read_table(tmp_path)} == {math.inf}
    assert verdict["verdict"] == "inconclusive"
    assert verdict["necessary_condition"]["noise_to_signal"].ci_high == math.inf
    assert verdict["necessary_condition"]["holds"] is not False
    assert theory.INCONCLUSIVE in (tmp_path / "report.html").read_text()
