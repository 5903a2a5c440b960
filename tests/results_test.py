"""docs/results.md: its tables are made from kept files, which are judged to the same again."""

import csv
import math

import pytest

from docs import build_results
from keras_svag.theory import judge_noisy_gradient_descent, judge_scaling, judge_sde

STUDIES = build_results.load_studies()


def rows_of(study):
    """Rows of results.csv, numbers as floats; NaN where a run failed."""
    with open(build_results.FOLDER / study["name"] / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name, value in row.items():
            try:
                row[name] = float(value)
            except ValueError:
                row[name] = math.nan if value == "" else value
    return rows


def by_seed(rows, quantity):
    return [row[quantity] if row["status"] == "done" else math.nan for row in rows]


def of_kind(kind):
    """Parametrizes a test over the studies of a kind."""
    studies = [study for study in STUDIES if study["verdict"]["study"] == kind]
    return pytest.mark.parametrize("study", studies, ids=lambda study: study["name"])


def assert_same_ratios(ratios, kept):
    assert set(ratios) == set(kept)
    for name, ratio in ratios.items():
        found = [ratio.mean, ratio.ci_low, ratio.ci_high]
        expected = [kept[name][end] for end in ("mean", "ci_low", "ci_high")]
        expected = [math.inf if value is None else value for value in expected]
        assert found == pytest.approx(expected, rel=1e-6), name


def test_page_has_the_tables_of_the_kept_files():
    page = build_results.PAGE.read_text()
    assert build_results.build(page, STUDIES) == page
    for study in STUDIES:
        assert f"<!-- {study['name']} -->" in page and study["command"] in page


def scaling(outcomes, high=9.0):
    return {
        "settings": [{"kappa": float(k), "outcome": outcome} for k, outcome in outcomes.items()],
        "predicted_max_kappa": {"tight": {"ci_high": high}},
    }


@pytest.mark.parametrize(
    ("verdict", "expected", "confirmed"),
    [
        ({"verdicts": [{"verdict": "valid"}]}, "valid", True),
        ({"verdicts": [{"verdict": "valid"}]}, "invalid", False),
        ({"verdicts": [{"verdict": "inconclusive"}]}, "valid", None),
        ({"verdicts": [{"verdict": "valid"}, {"verdict": "inconclusive"}]}, "valid", None),
        ({"verdicts": [{"verdict": "invalid"}, {"verdict": "inconclusive"}]}, "valid", False),
        (scaling({4: "holds", 8: "fails", 16: "fails"}), "below the bound", True),
        (scaling({4: "holds", 8: "holds"}), "below the bound", None),
        (scaling({4: "holds", 8: "fails"}), "below the bound", None),
        (scaling({8: "fails", 16: "inconclusive"}), "below the bound", None),
        (scaling({8: "inconclusive", 16: "holds", 32: "fails"}), "below the bound", False),
        (scaling({8: "fails", 16: "fails"}, None), "below the bound", None),
        (scaling({4: "holds", 8: "fails"}), {"4": "holds"}, True),
        (scaling({4: "holds", 8: "fails"}), {"4": "holds", "8": "holds"}, False),
        (scaling({4: "inconclusive"}), {"4": "fails"}, None),
    ],
)
def test_claims_are_confirmed_refuted_or_open(verdict, expected, confirmed):
    assert build_results._confirms(verdict, expected) is confirmed


@of_kind("sde_validity")
def test_sde_is_judged_to_the_same_again(study):
    rows = [row for row in rows_of(study) if row["method"] == "svag"]
    for kept in study["verdict"]["verdicts"]:
        cells = [row for row in rows if row["batch_size"] == kept["batch_size"]]
        ells = sorted({row["ell"] for row in cells})
        values = {
            name: {ell: by_seed([r for r in cells if r["ell"] == ell], name) for ell in ells}
            for name in kept["ratios"]
        }
        verdict = judge_sde(values, study["verdict"]["closeness"], look=kept["look"])
        assert verdict.verdict == kept["verdict"]
        assert_same_ratios(verdict.ratios, kept["ratios"])


@of_kind("linear_scaling")
def test_scaling_is_judged_to_the_same_again(study):
    rows, verdict = rows_of(study), study["verdict"]
    base = [row for row in rows if row["batch_size"] == verdict["base_batch_size"]]
    for kept in verdict["settings"]:
        if kept["outcome"] == "base":
            continue
        cell = [row for row in rows if row["batch_size"] == kept["batch_size"]]
        # R is judged where the loss is scale invariant.
        judges_r = verdict["premises"]["scale invariant network"]
        names = [n for n in kept["ratios"] if judges_r or n != "weight_norm"]
        found = judge_scaling(
            {name: by_seed(base, name) for name in names},
            {name: by_seed(cell, name) for name in names},
            verdict["closeness"],
            look=kept["look"],
        )
        assert found.verdict == kept["outcome"]
        assert_same_ratios(found.ratios, {name: kept["ratios"][name] for name in names})


@of_kind("noisy_gradient_descent")
def test_gaussian_noise_is_judged_to_the_same_again(study):
    rows, verdict = sorted(rows_of(study), key=lambda row: row["seed"]), study["verdict"]
    for kept in verdict["verdicts"]:
        compared = build_results.sgd_and_ngd(verdict, kept["batch_size"])
        cells = [row for row in rows if row["batch_size"] == kept["batch_size"]]
        sgd, ngd = (
            {
                c["quantity"]: by_seed([r for r in cells if r["method"] == method], c["quantity"])
                for c in compared
            }
            for method in ("svag", "gaussian")
        )
        margin = compared[0]["limits"][1] - 1
        found = judge_noisy_gradient_descent(sgd, ngd, margin, look=kept["look"])
        assert found.verdict == kept["verdict"]
        assert_same_ratios(found.ratios, {c["quantity"]: c["ratio"] for c in compared})
