"""Tests of keras_svag/studies/sde_validity: verdicts on studies whose truth is known."""

import math

import pytest

from keras_svag import theory
from keras_svag.engine.files import records
from keras_svag.recipe import TrainingFacts
from keras_svag.studies import SDEValidity
from keras_svag.studies.sde_validity.verdict import confidence_per_look
from tests.studies.helpers import build, read_table, run_study, study_config
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
    # N/G is 4 at one and 0.09 / 2 at the other, against a threshold of 1.
    assert small["necessary_condition"]["holds"] is True
    assert large["necessary_condition"]["holds"] is False
    assert small["necessary_condition"]["noise_to_signal"].mean == pytest.approx(4, rel=0.02)
    # 2 Q(8) - Q(4) removes the error: the limit of G is 0.5, SGD has four times that.
    assert large["ratios"]["gradient_signal"].mean == pytest.approx(4.0, rel=0.02)
    assert large["ratios"]["gradient_noise"].mean == pytest.approx(0.9, rel=0.02)
    assert large["measured_closeness"].mean == pytest.approx(4.0, rel=0.02)
    assert large["reason"].startswith(
        "differs from the SDE by more than a factor 1.41 in gradient signal G (ratio "
    )
    page = (tmp_path / "report.html").read_text()
    assert "At batch size 8, you can rely on the SDE" in page
    assert "At batch size 128, do not rely on the SDE" in page


def test_extrapolation_takes_the_two_largest_ell(synthetic):
    # Were ell = 1 or 2 used, the quadratic part would show: c / (4 * 8) is left, here 1 / 32.
    verdict = synthetic(lambda run: (1.0, 1.0, 1 + 1 / run.ell + 1 / run.ell**2))
    ratio = verdict["verdicts"][0]["ratios"]["gradient_signal"]
    assert ratio.mean == pytest.approx(3 / (1 - 1 / 32), rel=1e-12)


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
    # Three looks, each with a third of the 5 %.
    assert verdict["confidence"] == pytest.approx(1 - 0.05 / 3)


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


@pytest.mark.parametrize(
    ("first", "most", "looks"), [(4, 4, 1), (4, 8, 2), (4, 16, 3), (4, 6, 2), (3, 100, 7)]
)
def test_confidence_per_look(first, most, looks):
    # first, 2 first, 4 first ... most: so many looks share the 5 %.
    sequence = [first]
    while sequence[-1] < most:
        sequence.append(min(2 * sequence[-1], most))
    assert len(sequence) == looks
    study = SDEValidity(FACTS, num_seeds=first, max_num_seeds=most)
    got = confidence_per_look(study)
    assert 1 - got == pytest.approx(0.05 / looks)


def test_too_few_ell_to_extrapolate(synthetic):
    grids = []
    grid = {"batch_sizes": [8], "ells": [1.0, 2.0]}
    verdict = synthetic(
        first_order, {"sde_validity": grid, "max_num_seeds": 16}, spread=lambda _: 0.1, grids=grids
    )
    assert verdict["verdict"] == "inconclusive" and verdict["verdicts"][0]["ratios"] == {}
    assert "two values of ell above 1" in verdict["verdicts"][0]["reason"]
    assert "sde_validity.ells" in verdict["verdicts"][0]["reason"]
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


def test_failed_runs_are_left_out_in_pairs(synthetic):
    # Seed 0 lacks ell = 4, seed 1 lacks ell = 8, of SGD nothing lacks: seeds 2 and 3 are left.
    def truth(run):
        return 1.0, 1.0, 1.0 + (5.0 if run.seed < 2 and run.ell >= 4 else 0.0)

    failed = ("b8_ell4_seed0", "b8_ell8_seed1")
    verdict = synthetic(truth, {"num_seeds": 4, "max_num_seeds": 4}, failed=failed)
    small, large = verdict["verdicts"]
    assert small["ratios"]["gradient_signal"].mean == pytest.approx(1.0)
    assert large["ratios"]["gradient_signal"].mean == pytest.approx(1 / math.sqrt(6))
    counts = {(s["batch_size"], s["ell"]): s["num_seeds"] for s in verdict["settings"]}
    assert [counts[8, ell] for ell in (1, 2, 4, 8)] == [4, 4, 3, 3]
    assert verdict["failed_runs"] == {name: f"{name} <diverged>" for name in failed}


def test_everything_failed(synthetic, tmp_path):
    names = [f"b{b}_ell{ell}_seed{s}" for b in (8, 128) for ell in (1, 2, 4, 8) for s in (0, 1)]
    verdict = synthetic(first_order, failed=names, draw=True)
    assert verdict["verdict"] == "inconclusive" and set(verdict["failed_runs"]) == set(names)
    assert "fewer than two seeds finished" in verdict["verdicts"][0]["reason"]
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
    assert "num_seeds >= 2" in verdict["verdicts"][0]["reason"]
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
            records.write_jsonl(path, rows)
            return result

    use_pool(pool=Pool, draw=True)
    grid = {"batch_sizes": [128], "ells": [1.0, 2.0, 4.0]}
    verdict = run(study_config(sde_validity=grid), tmp_path).details
    assert [row["noise_to_signal"] for row in read_table(tmp_path)] == [math.inf] * 6
    assert verdict["verdict"] == "inconclusive"
    assert verdict["necessary_condition"]["noise_to_signal"].ci_high == math.inf
    assert verdict["necessary_condition"]["holds"] is not False
    assert theory.INCONCLUSIVE in (tmp_path / "report.html").read_text()
