"""Tests of keras_svag/studies/branched_batch_size, where the truth is known and on real runs."""

import functools
import json
import math
import os

import keras
import numpy as np
import pytest

from configs.digits import get_config
from keras_svag import Recipe
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.files import checkpoints, records
from keras_svag.engine.processes import worker
from keras_svag.engine.spec import BRANCH, SVAG
from keras_svag.studies import BranchedBatchSize, compare, load
from keras_svag.studies.status import read_status
from tests.engine.helpers import Interrupted
from tests.studies import helpers
from tests.studies.helpers import files_of, run_study
from tests.studies.report_test import Page
from tests.studies.synthetic import make_pool

NAME = "branched_batch_size"
X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


def config_of(factors=(2.0, 4.0, 8.0), **changes):
    config = get_config("quick").to_dict()
    study = config[NAME] | {"factors": factors}
    study |= {name: changes.pop(name) for name in list(changes) if name in study}
    return config | {"num_seeds": 4, "max_num_seeds": 8, NAME: study} | changes


def build(config):
    return helpers.build(config, NAME)


def truth(run):
    return 50.0, 3.0 / run.batch_size, 0.125  # N/G = 3 at B = 8


def power_law(run, step):
    """Loss of a branch: kappa^0.1 times 0.8 to 1.1 by seed, and ten times that at its beginning."""
    if run.method != BRANCH:
        return 1.0
    early = 10 if step <= run.total / 2 else 1
    return early * (0.8 + 0.1 * run.seed) * run.kappa**0.1


@pytest.fixture
def run(tmp_path, use_pool):
    """Runs the study on records with a known truth; returns its `Result`."""

    def start(config=None, loss=power_law, workdir=tmp_path, **options):
        use_pool(truth, loss=loss, **options)
        return run_study(config or config_of(), NAME, workdir)

    return start


def outcomes(details):
    return {setting["kappa"]: setting["outcome"] for setting in details["settings"]}


# Where the truth is known.


def test_critical_factor_and_bound(run, tmp_path):
    result = run(draw=True)
    details = result.details
    # 10 % more loss at kappa = 1.1^10 = 2.59; by N/G: 2 + 3.
    factor = details["critical_factor"]
    ends = [factor.mean, factor.ci_low, factor.ci_high]
    np.testing.assert_allclose(ends, 1.1**10)
    assert details["predicted_max_kappa"]["tight"].mean == pytest.approx(5.0)
    assert details["comparison"]["ratio"] == pytest.approx(1.1**10 / 5)
    assert outcomes(details) == {1: "base", 2: "holds", 4: "fails", 8: "fails"}
    assert details["observed_max_kappa"]["value"] == 2 and result.verdict == "fails"
    assert records.read_json(tmp_path / "verdict.json") == records.to_json(details)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "critical factor on the batch size is 2.594" in page.text
    assert result.figures == ["branches", "branch_curves"]
    assert "Critical factor: 2.59" in repr(result)


def test_the_beginning_of_a_branch_is_left_out(run):
    settings = run().details["settings"]
    for setting in settings:
        mean = np.mean([0.8, 0.9, 1.0, 1.1]) * setting["kappa"] ** 0.1
        assert setting["smoothed_loss"].mean == pytest.approx(mean)
    whole = run(config_of(recovery=0.0)).details["settings"]  # on the same workdir
    assert whole[0]["smoothed_loss"].mean > 4 * settings[0]["smoothed_loss"].mean


def test_seeds_are_compared_with_themselves(run):
    # Losses of seeds differ by a third, those of kappa = 2 from the base by 7 %.
    assert run().details["settings"][1]["outcome"] == "holds"


def test_prediction_is_on_disk_before_any_branch(run, tmp_path):
    executed, path = [], tmp_path / "prediction.json"

    class Pool(make_pool(truth)):
        def execute(self, grid, on_steps):
            executed.append(({(s.method, s.batch_size) for s in grid}, len(grid), path.exists()))
            return super().execute(grid, on_steps)

    run(pool=Pool)
    branches = {(BRANCH, 8 * kappa) for kappa in (1, 2, 4, 8)}
    # The run of a seed is trained once, whatever the number of its branches.
    assert executed == [({("svag", 8)}, 4, False), (branches, 16, True)]


def test_every_branch_has_the_same_examples_and_times():
    study = build(config_of(num_examples=1000))
    branches = [s for s in study.specs({}) if s.method == BRANCH]
    total = study.facts.steps_at(8)
    for spec in branches:
        assert spec.origin in study.specs({}) and spec.origin.total == round(total / 2)
        assert spec.total == round(1000 / spec.batch_size)
        assert spec.first_step == round(spec.origin.total / spec.kappa)
        assert spec.learning_rate == pytest.approx(spec.kappa * study.facts.learning_rate)


def test_failed_runs_are_seen(run):
    names = [f"b64_branch1_seed{seed}" for seed in range(4)]
    details = run(failed=names).details
    assert outcomes(details)[8] == "fails" and details["settings"][3]["failed"] == 4
    assert sorted(details["failed_runs"]) == names


def test_nothing_but_failed_runs(run, tmp_path):
    names = [spec.name for spec in build(config_of()).specs({})]
    result = run(failed=names, draw=True)
    assert result.details["observed_max_kappa"]["value"] is None and result.verdict != "holds"
    assert "Find a learning rate" in result.study.recommend(records.to_json(result.details))[0]
    assert "Critical factor: unknown" in repr(result)
    assert "diverged" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text


def test_no_branch_fails(run):
    result = run(loss=lambda spec, step: 1.0 + 0.001 * spec.seed)
    details = result.details
    assert outcomes(details) == {1: "base", 2: "holds", 4: "holds", 8: "holds"}
    assert details["critical_factor"].mean == pytest.approx(8)
    assert details["critical_factor"].ci_high == math.inf
    assert "Add larger factors" in result.study.recommend(records.to_json(details))[1]


def test_a_workdir_takes_more_factors_but_no_other_branch_point(run, tmp_path):
    run(config_of(factors=(2.0,)))
    grids = []
    details = run(config_of(factors=(2.0, 3.0), tolerance=0.05), grids=grids).details
    assert outcomes(details) == {1: "base", 2: "fails", 3: "fails"}
    before = files_of(tmp_path)
    for change in ({"branch_at": 0.25}, {"num_examples": 300}):
        with pytest.raises(ValueError, match=f"workdir.*{NAME}.{next(iter(change))}"):
            run(config_of(factors=(2.0,), **change))
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"factors": (1.0,)}, "must hold a factor besides 1"),
        ({"factors": (1.3,)}, "must give whole batch sizes from 8"),
        ({"branch_at": 1.0}, "branch_at"),
        ({"recovery": 1.0}, "recovery"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"num_examples": 10**6}, "num_examples.*at most 1432"),
        ({"factors": (32.0,)}, "factors.*at least 4 steps of the largest batch"),
    ],
)
def test_refused(change, message):
    with pytest.raises(ValueError, match=message) as error:
        build(config_of(**change))
    assert NAME in str(error.value) and "Received: " in str(error.value)


def test_a_rule_that_ends_limits_the_default_factors():
    config = config_of(factors=None, optimizer={"name": "SVAGAdam"})
    assert build(config).factors == (1.0, 2.0, 4.0, 8.0)
    study = build(config_of(factors=(16.0,), optimizer={"name": "SVAGAdam"}))
    with pytest.raises(ValueError, match="`kappa` must be below 10"):
        study.check()


# Real runs.


def network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def make_study(model=network, optimizer=None, **options):
    optimizer = optimizer or keras.optimizers.SGD(0.02, momentum=0.5)
    recipe = Recipe(model, (X, np.sin(X[:, :1])), optimizer, "mse", batch_size=4, epochs=4)
    options = {"num_seeds": 2, "num_records": 8, "num_checkpoints": 4} | options
    return BranchedBatchSize(recipe, factors=(1.5,), num_examples=96, **options)


@pytest.fixture(scope="module")
def study():
    """A study whose programs are compiled once in this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(worker.TRAINING_CLASSES, SVAG, functools.cache(CompiledTraining))
        yield make_study()


@pytest.fixture(scope="module")
def finished(study, tmp_path_factory):
    """Folder and `Result` of the study; nobody may write to it."""
    workdir = tmp_path_factory.mktemp("branches")
    return workdir, study.run(workdir, num_workers=1, show_progress=False)


def test_files_of_a_study(finished):
    workdir, result = finished
    names = [
        *(f"b4_ell1_seed{seed}" for seed in (0, 1)),
        *(f"b{size}_branch1_seed{seed}" for size in (4, 6) for seed in (0, 1)),
    ]
    assert sorted(p.name for p in (workdir / "runs").iterdir()) == sorted(names)
    assert {row["status"] for row in result.table} == {"done"} and len(result.table) == 6
    verdict = json.loads((workdir / "verdict.json").read_text())
    assert verdict["study"] == NAME and verdict["branch_step"] == 32
    for path in ("report.html", "results.csv", "prediction.json", "figures/branches.png"):
        assert (workdir / path).stat().st_size


def test_load_judge_status_and_compare(finished, tmp_path):
    workdir, result = finished
    loaded = load(workdir)
    assert records.to_json(loaded.details) == records.to_json(result.details)
    status = read_status(workdir)
    assert (status.done, status.planned, status.fraction_done) == (6, 6, 1.0)
    assert "Critical factor" in str(status)
    comparison = compare(workdir, workdir)
    ratios = [r["ratio"].mean for r in comparison.table if r["quantity"] != "gradient_signal"]
    np.testing.assert_allclose(ratios, 1.0)
    comparison.plot()


def test_judged_again(finished, tmp_path):
    for path in [p for p in finished[0].rglob("*") if p.is_file()]:
        copy = tmp_path / path.relative_to(finished[0])
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    judged = load(tmp_path).judge(closeness=2.0)
    assert judged.details["predicted_max_kappa"]["tight"].mean >= 4  # C^2
    assert judged.path.exists() and judged.report.exists()


@pytest.mark.parametrize("saves", [3, 9, 15])
def test_a_killed_study_resumes_with_the_same_records(
    study, finished, tmp_path, monkeypatch, saves
):
    # Checkpoints of a base run: 4, of a branch: 4. Killed in a base run, or in a branch.
    count, save = iter(range(saves)), checkpoints.save

    def fail_later(*arguments, **facts):
        if next(count, None) is None:
            raise Interrupted
        save(*arguments, **facts)

    monkeypatch.setattr(BranchedBatchSize, "figures", lambda *_: [])  # they cost a second
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", fail_later)
        with pytest.raises(Interrupted):
            study.run(tmp_path, num_workers=1, show_progress=False)
    done = sorted(tmp_path.glob("runs/*/result.json"))
    times = [os.stat(path).st_mtime_ns for path in done]
    study.run(tmp_path, num_workers=1, show_progress=False)
    assert [os.stat(path).st_mtime_ns for path in done] == times  # trained once
    for name in ("runs/{}/metrics.jsonl", "runs/{}/checkpoint/latest.npz"):
        for run in (p.name for p in (tmp_path / "runs").iterdir()):
            path = name.format(run)
            assert (tmp_path / path).read_bytes() == (finished[0] / path).read_bytes(), path
    assert load(tmp_path).verdict == finished[1].verdict


def test_a_recipe_may_start_from_checkpoints(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    for seed in (0, 1):
        network(seed + 10).save(folder / f"seed{seed}.keras")

    def saved(seed):
        return keras.saving.load_model(folder / f"seed{seed}.keras", compile=False)

    still = keras.optimizers.SGD(1e-9)  # so that the weights stay as they were
    own = make_study(saved, still, branch_at=0.05)
    own.run(tmp_path / "out", num_workers=1, show_progress=False)
    for seed in (0, 1):
        expected = np.mean(np.square(network(seed + 10)(X) - np.sin(X[:, :1])))
        for run in (f"b4_ell1_seed{seed}", f"b6_branch1_seed{seed}"):
            [*_, row] = records.read_jsonl(tmp_path / "out" / "runs" / run / "metrics.jsonl")
            assert row["train_loss"] == pytest.approx(float(expected), rel=1e-4)
