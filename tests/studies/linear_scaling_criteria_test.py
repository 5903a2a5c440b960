"""Tests of keras_svag/studies/linear_scaling: criteria, looks at the data, failed runs."""

import math

import numpy as np
import pytest

from keras_svag.engine.files import records
from keras_svag.studies import load
from tests.studies.helpers import (
    build,
    one_sided_level,
    read_table,
    replace_records,
    run_study,
    scaling_config,
)
from tests.studies.report_test import Page
from tests.studies.synthetic import scaling_world


def outcomes(verdict):
    return {setting["kappa"]: setting["outcome"] for setting in verdict["settings"]}


def setting_at(verdict, batch_size):
    return next(s for s in verdict["settings"] if s["batch_size"] == batch_size)


def config_with(**fields):
    """A config with further fields of this study, also those that configs/digits.py lacks."""
    config = scaling_config()
    config["linear_scaling"] |= fields
    return config


def report_of(workdir):
    return Page((workdir / "report.html").read_text()).text


# Criteria.

ERRORS = {4: 0.05, 8: 0.10, 16: 0.119, 32: 0.121, 64: 0.2}


def accuracy_of(run):
    return 1 - ERRORS[run.batch_size]


def test_test_error_ratio_is_one_sided(scaling, tmp_path):
    # R, B N and G agree everywhere, or not: only test error counts.
    world = scaling_world({2.0: (3.0, 1.0, 1.0)})
    verdict = scaling(world, config_with(criterion="test_error_ratio"), accuracy=accuracy_of)
    assert outcomes(verdict) == {0.5: "holds", 1: "base", 2: "holds", 4: "fails", 8: "fails"}
    for batch_size in (4, 16, 32, 64):
        ratio = setting_at(verdict, batch_size)["ratios"]["test_error"].mean
        assert ratio == pytest.approx(ERRORS[batch_size] / 0.1)
    assert setting_at(verdict, 16)["ratios"]["weight_norm"].mean == pytest.approx(3.0)
    text = report_of(tmp_path)
    assert "test error at most 1.2 times that of the base runs" in text
    assert "test error ratio" in text
    wider = config_with(criterion="test_error_ratio", test_error_ratio=2.5)
    assert set(outcomes(scaling(world, wider, accuracy=accuracy_of)).values()) == {"base", "holds"}


@pytest.mark.parametrize("ratio", [1.0, 0.5, math.inf])
def test_ratio_of_errors_is_above_one(ratio):
    with pytest.raises(ValueError, match="test_error_ratio"):
        build(config_with(test_error_ratio=ratio), "linear_scaling")


def test_accuracy_that_is_not_finite_is_that_of_a_failed_run(scaling, tmp_path):
    scaling(scaling_world({}), config_with(criterion="test_accuracy"), accuracy=lambda run: 0.9)
    assert set(outcomes(load(tmp_path).details).values()) == {"base", "holds"}
    path = tmp_path / "runs" / "b16_ell1_seed0" / "metrics.jsonl"
    # JSON holds NaN as null.
    replace_records(path, [row | {"test_accuracy": None} for row in records.read_jsonl(path)])
    expected = {0.5: "holds", 1: "base", 2: "inconclusive", 4: "holds", 8: "holds"}
    assert outcomes(load(tmp_path).details) == expected


def test_further_criteria(scaling, tmp_path):
    limit = {"final_test_accuracy": {"difference": 0.03}}
    verdict = scaling(scaling_world({}), config_with(criteria=limit), accuracy=accuracy_of)
    # Two-sided: at B = 4 accuracy is higher by 0.05.
    assert outcomes(verdict) == {0.5: "fails", 1: "base", 2: "holds", 4: "holds", 8: "fails"}
    entry = setting_at(verdict, 64)
    assert entry["ratios"]["final_test_accuracy"].mean == pytest.approx(-0.1)
    assert entry["test_accuracy_loss"].mean == pytest.approx(0.1)
    assert "final test accuracy within limits of their own" in report_of(tmp_path)


def test_limit_of_one_of_the_three(scaling):
    # G 1.3 times as large is inside sqrt(2), not inside 1.2.
    world = scaling_world({2.0: (1.3, 1.0, 1.0), 4.0: (1.0, 1.0, 1.3)})
    verdict = scaling(world, config_with(criteria={"gradient_signal": {"ratio": 1.2}}))
    assert outcomes(verdict)[2.0] == "holds" and outcomes(verdict)[4.0] == "fails"


@pytest.mark.parametrize(
    ("criteria", "message"),
    [({"train_loss": 2.0}, "criteria.*train_loss"), ({"train_loss": {"ratio": 1.0}}, "ratio")],
)
def test_invalid_criteria(criteria, message):
    with pytest.raises(ValueError, match=message):
        build(config_with(criteria=criteria), "linear_scaling")


def test_column_that_is_not_recorded_stops_after_the_base_runs(use_pool, tmp_path):
    grids = []
    use_pool(scaling_world({}), grids=grids)
    config = config_with(criteria={"final_test_perplexity": {"ratio": 1.2}})
    with pytest.raises(ValueError, match="final_test_perplexity.*Use another criterion"):
        run_study(config, "linear_scaling", tmp_path)
    assert grids == [["b8_ell1_seed0", "b8_ell1_seed1"]]


def test_weight_norm_counts_only_where_the_loss_is_scale_invariant(scaling, tmp_path):
    config = scaling_config(model={"name": "mlp", "norm": "none"})
    world = scaling_world({k: (3.0, 1.0, 1.0) for k in (0.5, 2.0, 4.0, 8.0)})
    verdict = scaling(world, config)
    assert set(outcomes(verdict).values()) == {"base", "holds"}
    assert setting_at(verdict, 16)["ratios"]["weight_norm"].mean == pytest.approx(3.0)
    text = report_of(tmp_path)
    assert "R is left out: the loss is not scale invariant" in text
    assert "(B N and G within a factor 1.414" in text
    # Unless it is asked for.
    config["linear_scaling"]["criterion"] = "weight_norm"
    assert set(outcomes(scaling(world, config)).values()) == {"base", "fails"}


# Looks at the data.


def test_each_look_spends_half_of_what_is_left(run_scaling, tmp_path):
    def look(num_seeds):
        config = scaling_config(num_seeds=num_seeds, max_num_seeds=16)
        result = run_scaling(scaling_world({}), config, spread=lambda run: 0.1)
        entry = setting_at(result.details, 32)
        values = [
            np.array([r["weight_norm"] for r in read_table(tmp_path) if r["batch_size"] == size])
            for size in (32, 8)
        ]
        ratio = entry["ratios"]["weight_norm"]
        levels = [one_sided_level(*values, end) for end in (ratio.ci_low, ratio.ci_high)]
        return result, entry["look"], levels

    for number, num_seeds in ((1, 3), (2, 6), (2, 6), (3, 7)):
        result, found, levels = look(num_seeds)
        assert found == number
        # 2.5 % for each end at the first look, half of that at the second, and so on. The ends are
        # found to 1e-10 of themselves, which the level, over some 0.01 of spread, shows 100 times.
        assert levels == pytest.approx([0.05 / 2**number] * 2, rel=1e-6)
        assert result.details["looks"][32] == {"8": num_seeds, "32": num_seeds}
    assert records.read_sealed(tmp_path / "looks.json")["32"] == [
        {"8": n, "32": n} for n in (3, 6, 7)
    ]
    assert setting_at(result.details, 8)["look"] is None
    assert "third look at the data" in result.study.correction(result.details)
    # Judged again, the same runs are the same look.
    assert setting_at(load(tmp_path).judge(closeness=1.2).details, 32)["look"] == 3


def test_another_batch_size_is_no_look_at_the_others(scaling):
    scaling(scaling_world({}), scaling_config(batch_sizes=(16,)))
    verdict = scaling(scaling_world({}), scaling_config(batch_sizes=(16, 32), num_seeds=3,
                                                        max_num_seeds=3))  # fmt: skip
    assert setting_at(verdict, 16)["look"] == 2 and setting_at(verdict, 32)["look"] == 1


# Failed runs.


def test_nothing_holds_where_a_base_run_failed(run_scaling, tmp_path):
    world = scaling_world({8.0: (2.0, 1.0, 1.0)})
    config = scaling_config(num_seeds=4, max_num_seeds=4)
    result = run_scaling(world, config, failed=["b8_ell1_seed1"])
    # A difference that the finished runs show still counts.
    expected = {0.5: "inconclusive", 1: "base", 2: "inconclusive", 4: "inconclusive", 8: "fails"}
    assert outcomes(result.details) == expected
    assert "1 of 8 runs failed" in setting_at(result.details, 16)["reason"]
    base = setting_at(result.details, 8)
    assert (base["num_seeds"], base["failed"]) == (3, 1)
    assert result.details["observed_max_kappa"]["value"] == 1.0
    text = report_of(tmp_path)
    assert "3 of 4" in repr(result) and "3 of 4" in text and "1 of 8 runs failed" in text
    steps = " ".join(result.study.recommend(records.to_json(result.details)))
    assert "learning_rate" in steps and "more seeds" not in steps


def test_divergence_beside_a_base_that_diverges_is_no_failure_of_the_rule(scaling):
    failed = ["b8_ell1_seed0", *(f"b16_ell1_seed{seed}" for seed in range(4))]
    config = scaling_config(num_seeds=4, max_num_seeds=4)
    verdict = scaling(scaling_world({}), config, failed=failed)
    assert outcomes(verdict)[2.0] == "inconclusive"
    assert setting_at(verdict, 16)["ratios"] == {}
