"""Tests of keras_svag/studies/noisy_gradient_descent."""

import json

import numpy as np
import pytest

from configs.digits import get_config
from keras_svag.studies.noisy_gradient_descent.arms import build_arms
from keras_svag.theory import compare
from tests.studies.helpers import build, run_study

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
        expected = compare(
            [window_mean("SGD", s) for s in (0, 1)],
            [window_mean(other, s) for s in (0, 1)],
            margin=0.05,
            paired=True,
        )
        row = next(
            r
            for r in verdict["comparisons"]
            if (r["first"], r["second"], r["quantity"]) == ("SGD", other, "weight_norm")
        )
        np.testing.assert_allclose(row["ratio"].mean, expected.ratio.mean, rtol=1e-12)
        assert row["outcome"] == expected.outcome


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
        # SGD(B/2) draws batches of half the size: those of 1500 are too large, of 750 are not.
        (
            {
                "sampling": "without_replacement",
                "noisy_gradient_descent": {"batch_sizes": (1500,), "margins": (0.1,)},
            },
            "1437 .*batch_size=1500",
        ),
        ({"num_records": 1}, "num_records=1"),
    ],
    ids=["model", "batch size", "window"],
)
def test_what_a_run_would_refuse_leaves_nothing_behind(fields, message, tmp_path):
    config = ngd_config()
    study = config["noisy_gradient_descent"] | fields.get("noisy_gradient_descent", {})
    with pytest.raises(ValueError, match=message):
        run_study(config | fields | {NAME: study}, NAME, tmp_path / "study")
    assert not (tmp_path / "study").exists()
