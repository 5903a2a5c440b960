"""Tests of keras_svag/studies/noisy_gradient_descent."""

import json
import math

import numpy as np
import pytest

from configs.digits import get_config
from keras_svag.engine.execution import DONE, FAILED
from keras_svag.engine.files import records
from keras_svag.studies import load
from keras_svag.studies.base.looks import record_looks
from keras_svag.studies.noisy_gradient_descent.arms import attach_rows, build_arms
from keras_svag.studies.noisy_gradient_descent.verdict import TITLES, build_verdict
from keras_svag.theory import judge_noisy_gradient_descent
from tests.studies.helpers import build, replace_records, run_study

NAME = "noisy_gradient_descent"


def ngd_config(**changes):
    """The quick config, cut to some twenty steps, with `changes` to its part for this study."""
    config = get_config("quick").to_dict()
    config["noisy_gradient_descent"] |= changes
    return config


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder and verdict of a finished quick study."""
    workdir = tmp_path_factory.mktemp("ngd")
    return workdir, run_study(ngd_config(), NAME, workdir).details


def test_arms_share_mean_and_covariance():
    # What a step of each does in one unit of time: `count` steps of eta / m with m times the
    # covariance of a batch of B (Gaussian, SVAG), or with batches of B / m.
    arms = build_arms(build(ngd_config(noise_steps=(1.0, 4.0)), NAME))
    assert [arm["method"] for arm in arms] == ["SGD", "NGD", "SVAG(4)", "Gaussian(4)", "SGD(B/4)"]
    for arm in arms:
        run = arm["specs"][0]
        count = run.steps / arms[0]["specs"][0].steps
        small = arm["batch_size"] / run.batch_size
        assert count == arm["noise_steps"] == run.ell * small
        # Distance in time, and noise: covariance Sigma_1 / B times step^2, summed over the steps.
        step = run.learning_rate / run.ell
        assert np.isclose(count * step, arm["learning_rate"])
        noise = count * step**2 * run.ell / run.batch_size
        assert np.isclose(noise, arm["learning_rate"] ** 2 / arm["batch_size"])


def test_an_arm_with_the_second_moment():
    arms = build_arms(build(ngd_config(noise_steps=(1.0, 4.0), second_moment=True), NAME))
    [arm] = [arm for arm in arms if arm["method"] == "SecondMoment(4)"]
    assert [spec.name for spec in arm["specs"]] == ["b128_second4_seed0", "b128_second4_seed1"]
    assert len(arms) == 6


def test_what_a_study_leaves(study):
    workdir, verdict = study
    assert json.loads((workdir / "verdict.json").read_text())["study"] == "noisy_gradient_descent"
    for file in ("results.csv", "report.html", "figures/methods_b128.png"):
        assert (workdir / file).stat().st_size > 500
    assert {row["method"] for row in verdict["settings"]} == {
        "SGD",
        "NGD",
        "SVAG(2)",
        "Gaussian(2)",
        "SGD(B/2)",
    }
    assert not verdict["failed_runs"]


def test_comparisons_are_those_of_the_runs(study):
    workdir, verdict = study
    folders = {"SGD": "b128_ell1", "NGD": "b128_gauss1", "SGD(B/2)": "b64_ell1"}

    def window_mean(method, seed):
        path = workdir / "runs" / f"{folders[method]}_seed{seed}" / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        ends = np.array([row["effective_step"] for row in rows])
        starts, last = np.r_[0, ends[:-1]], ends[-1]
        inside = (starts > 0.4 * last - 1) & (ends < 0.8 * last + 1)
        values = np.array([row["weight_norm"] for row in rows])
        return np.average(values[inside], weights=(ends - starts)[inside])

    for other in ("NGD", "SGD(B/2)"):
        expected = judge_noisy_gradient_descent(
            {"weight_norm": [window_mean("SGD", s) for s in (0, 1)]},
            {"weight_norm": [window_mean(other, s) for s in (0, 1)]},
            margin=0.05,
        ).ratios["weight_norm"]
        row = next(
            r
            for r in verdict["comparisons"]
            if (r["first"], r["second"], r["quantity"]) == ("SGD", other, "weight_norm")
        )
        for end in ("mean", "ci_low", "ci_high"):
            np.testing.assert_allclose(
                getattr(row["ratio"], end), getattr(expected, end), rtol=1e-9
            )
        assert row["limits"] == (1 / 1.05, 1.05)


def made_up_table(study, ratio=1.0, spread=0.001, failed=(), **columns):
    """A row per run: SGD's values are `ratio` times NGD's; runs in `failed` have none."""
    rng = np.random.default_rng(0)
    table = []
    for spec in study.specs({}):
        status = FAILED if spec.name in failed else DONE
        row = {"name": spec.name, "seed": spec.seed, "status": status, "message": "diverged"}
        if status == DONE:
            factor = ratio if spec.method == "svag" else 1.0
            row |= {q: factor * (1 + spread * rng.normal()) for q in TITLES}
            row |= {name: values[spec.method] for name, values in columns.items()}
        table.append(row)
    return table


def judge(tmp_path, table=None, num_seeds=8, **fields):
    study = build(ngd_config(noise_steps=(1.0,), num_seeds=num_seeds, **fields), NAME)
    table = made_up_table(study) if table is None else table(study)
    return build_verdict(study, attach_rows(study, table), tmp_path)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.0, "equivalent"), (1.2, "different"), (1 / 1.2, "different"), (1.05, "inconclusive")],
)
def test_verdicts(ratio, verdict, tmp_path):
    details = judge(tmp_path, lambda study: made_up_table(study, ratio))
    assert details["verdict"] == verdict
    assert verdict in {row["outcome"] for row in details["comparisons"]}


@pytest.mark.parametrize("method", ["ell", "gauss"])
def test_a_failed_run_is_never_equivalent(method, tmp_path):
    # The other seven seeds agree, in every quantity.
    failed = [f"b128_{method}1_seed3"]
    details = judge(tmp_path, lambda study: made_up_table(study, failed=failed))
    assert details["verdict"] == "inconclusive"
    assert "With 1 of 8 seeds, one of the two failed" in details["verdicts"][0]["reason"]
    for row in details["comparisons"]:
        assert (row["outcome"], row["num_seeds"], row["failed"]) == ("inconclusive", 7, 1)
    # What the finished runs show to be different is.
    details = judge(tmp_path, lambda study: made_up_table(study, 1.5, failed=failed))
    assert details["verdict"] == "different"


def test_a_run_whose_test_loss_overflows_is_never_equivalent(tmp_path, use_pool):
    # It finished, and JSON holds what is not finite as null.
    use_pool(lambda run: (100.0, 2.0, 0.5))
    run_study(ngd_config(noise_steps=(1.0,), num_seeds=4), NAME, tmp_path)
    assert load(tmp_path).verdict == "equivalent"
    path = tmp_path / "runs" / "b128_gauss1_seed1" / "metrics.jsonl"
    replace_records(path, [row | {"test_loss": None} for row in records.read_jsonl(path)])
    result = load(tmp_path)
    assert result.verdict == "inconclusive"
    assert "With 1 of 4 seeds, one of the two failed" in result.reason
    assert {row["quantity"] for row in result.details["comparisons"]} == set(TITLES)


def test_no_verdict_where_every_run_failed(tmp_path):
    failed = [f"b128_ell1_seed{seed}" for seed in range(8)]
    details = judge(tmp_path, lambda study: made_up_table(study, failed=failed))
    assert details["verdict"] == "inconclusive"
    assert all(row["ratio"].ci_high == math.inf for row in details["comparisons"])
    json.dumps(records.to_json(details), allow_nan=False)


def test_seeds_added_by_hand_are_another_look(tmp_path):
    first = judge(tmp_path, num_seeds=4)
    record_looks(tmp_path, first["looks"])
    assert judge(tmp_path, num_seeds=4)["verdicts"][0]["look"] == 1  # the same runs again
    second = judge(tmp_path)
    assert second["verdicts"][0]["look"] == 2
    # The same runs, judged at once, have a narrower interval.
    once = judge(tmp_path / "another")
    for later, alone in zip(second["comparisons"], once["comparisons"]):
        assert later["ratio"].mean == alone["ratio"].mean
        assert later["ratio"].ci_high > alone["ratio"].ci_high


def test_methods_added_later_are_no_other_look(tmp_path, use_pool):
    use_pool(lambda run: (100.0, 2.0, 0.5), spread=lambda run: 0.01)
    found = []
    for noise_steps in ((1.0,), (1.0, 2.0), (1.0, 2.0, 4.0)):
        config = ngd_config(noise_steps=noise_steps, num_seeds=4)
        details = run_study(config, NAME, tmp_path).details
        found.append((details["verdicts"][0]["look"], details["comparisons"][0]["ratio"]))
    assert found == [(1, found[0][1])] * 3


def test_criteria_add_quantities(tmp_path):
    def table(study):
        return made_up_table(study, final_test_accuracy={"svag": 0.9, "gaussian": 0.8})

    def outcome(**criteria):
        details = judge(tmp_path, table, criteria={"final_test_accuracy": criteria})
        [row] = [r for r in details["comparisons"] if r["quantity"] == "final_test_accuracy"]
        return details["verdict"], row["outcome"], row["kind"]

    assert outcome(difference=0.11) == ("equivalent", "equivalent", "difference")
    assert outcome(difference=0.02) == ("different", "different", "difference")
    assert outcome(ratio=1.2) == ("equivalent", "equivalent", "ratio")
    with pytest.raises(ValueError, match="criteria.*Received: criteria for 'final_auc'"):
        judge(tmp_path, criteria={"final_auc": {"ratio": 1.2}})


def test_second_call_repeats_nothing(study):
    workdir, verdict = study
    before = {p: p.stat().st_mtime_ns for p in workdir.rglob("result.json")}
    assert run_study(ngd_config(), NAME, workdir).details == verdict
    assert before == {p: p.stat().st_mtime_ns for p in workdir.rglob("result.json")}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("noise_steps", (2.0,), r"noise_steps=\[2.0\]"),
        ("margins", (0.1, 0.2), "margins"),
        ("margins", (0.0,), "margins"),
        ("criteria", {"final_test_accuracy": {"factor": 2.0}}, "criteria"),
        ("num_seeds", 0, "num_seeds=0"),
        ("batch_sizes", (0,), "batch_sizes=0"),
    ],
)
def test_wrong_fields_leave_nothing_behind(field, value, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(ngd_config(**{field: value}), NAME, tmp_path / "study")
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {"name": "mlp", "norm": "grup"}}, "norm.*'grup'"),
        # Half of the 1,437 examples without replacement: half the covariance of the Gaussian noise.
        ({"sampling": "without_replacement"}, "sampling='without_replacement'. Use"),
        ({"sampling": "shuffled_epochs"}, "sampling='shuffled_epochs'. Use"),
        ({"sampling": "fixed_order"}, "sampling='fixed_order'. Use"),
        ({"num_records": 1}, "num_records=1"),
    ],
    ids=["model", "without replacement", "shuffled", "fixed order", "window"],
)
def test_what_a_run_would_refuse_leaves_nothing_behind(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(ngd_config() | fields, NAME, tmp_path / "study")
    assert not (tmp_path / "study").exists()
