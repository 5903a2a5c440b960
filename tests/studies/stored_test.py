"""Studies on disk: loaded and judged again, without the model and without changing a file."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from keras_svag import theory
from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption
from keras_svag.studies import load
from tests.studies.helpers import build, files_of, run_study, scaling_config, study_config
from tests.studies.synthetic import make_pool, scaling_world

QUANTITIES = ("weight_norm", "gradient_noise", "gradient_signal")


def truth(run):
    """G of SGD is 1.3 times that of the SDE: extrapolation takes away what goes as 1/ell."""
    return 100.0, 2.0, 0.5 * (1 + 0.3 / run.ell)


def spread(run):
    return 0.02


@pytest.fixture
def sixteen(tmp_path, use_pool):
    """Folder of a study whose config says 4 seeds, in which 16 are finished; and its `Result`."""
    use_pool(truth, spread=spread)
    workdir = tmp_path / "study"
    for seeds in (16, 4):
        config = study_config(num_seeds=seeds, max_num_seeds=seeds, closeness=1.6)
        result = run_study(config, "sde_validity", workdir)
    return workdir, result


def of_runs(workdir):
    """Names, bytes and times of all files of the runs."""
    times = {str(p): p.stat().st_mtime_ns for p in (workdir / "runs").rglob("*")}
    return files_of(workdir / "runs"), times


def test_judge_takes_all_finished_runs_and_leaves_the_verdict(sixteen):
    workdir, result = sixteen
    assert result.details["settings"][0]["num_seeds"] == 4
    before, runs = files_of(workdir), of_runs(workdir)
    judged = load(workdir).judge(closeness=1.2)
    assert [s["num_seeds"] for s in judged.details["settings"]] == [16] * 4
    assert judged.details["closeness"] == 1.2 and len(judged.table) == 64
    # By hand: 16 seeds, SGD against the mean of 2 Q(4) - Q(2) and 2 Q(8) - Q(4).
    rows = {ell: _last_rows(workdir, ell, range(16)) for ell in (1, 2, 4, 8)}
    for name in QUANTITIES:
        means = {ell: np.mean([row[name] for row in rows[ell]]) for ell in rows}
        ratio = means[1] / (means[8] + means[4] / 2 - means[2] / 2)
        found = judged.details["verdicts"][0]["ratios"][name]
        # G is corrected for nothing with replacement; records are constant over a run.
        assert found.mean == pytest.approx(ratio, rel=1e-6)
    # 1.3 is outside 1.2, and inside 1.6 even if the error falls like 1/sqrt(ell): then the limit is
    # 1/3 of SGD's distance below the estimate, and the factor 1.3 / 0.9.
    assert (result.verdict, judged.verdict) == ("valid", "invalid")
    after = files_of(workdir)
    assert of_runs(workdir) == runs
    # 16 seeds and the 4 of the config are on record already: no further look.
    assert {name: after[name] for name in before} == before
    (new,) = set(after) - set(before)
    assert workdir / new == judged.path and new.startswith("verdict")
    written = json.loads(after[new])
    assert written["verdict"] == "invalid" and "1.2" in json.dumps(written["judged"])


def _last_rows(workdir, ell, seeds):
    paths = [workdir / "runs" / f"b128_ell{ell}_seed{seed}" / "metrics.jsonl" for seed in seeds]
    return [records.read_jsonl(path)[-1] for path in paths]


def test_correction_is_named(sixteen):
    workdir, _ = sixteen
    judged = load(workdir).judge(closeness=1.2)
    words = judged.details["judged"]["correction"]
    assert "95" in words and "Bonferroni" in words
    assert records.read_json(judged.path)["judged"]["correction"] == words


def test_same_closeness_gives_the_same_verdict(tmp_path, use_pool):
    use_pool(truth, spread=spread)
    result = run_study(study_config(), "sde_validity", tmp_path)
    loaded = load(tmp_path)
    assert records.to_json(loaded.details) == records.read_json(tmp_path / "verdict.json")
    again = loaded.judge(closeness=result.details["closeness"])
    details = {name: value for name, value in again.details.items() if name != "judged"}
    assert records.to_json(details) == records.read_json(tmp_path / "verdict.json")
    assert repr(loaded) == repr(result) == repr(again)


def test_judge_needs_neither_model_nor_training(finished, tmp_path):
    # A real study, of which only these files are there; and the result has no recipe.
    for name in ("config.json", "environment.json", "runs"):
        source = finished[0] / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    shutil.rmtree(next((tmp_path / "runs").glob("*")) / "checkpoint")
    runs = of_runs(tmp_path)
    loaded = load(tmp_path)
    assert records.to_json(loaded.details) == records.read_json(finished[0] / "verdict.json")
    with pytest.raises(ValueError, match="recipe"):
        loaded.study.run(tmp_path)
    assert loaded.judge(closeness=3.0).details["closeness"] == 3.0
    assert of_runs(tmp_path) == runs


@pytest.mark.parametrize("window", [(0.4, 0.8), (0.2, 0.6), (0.5, 1.0)])
def test_window(finished, tmp_path, window):
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    judged = load(tmp_path).judge(window=window)
    for row in judged.table:
        metrics = records.read_jsonl(tmp_path / "runs" / row["name"] / "metrics.jsonl")
        ends = np.array([record["effective_step"] for record in metrics])
        starts = np.r_[0, ends[:-1]]
        # Records that begin and end within one effective step of the window, as long as they are.
        inside = (starts > window[0] * 22 - 1) & (ends < window[1] * 22 + 1)
        for name in QUANTITIES:
            values = np.array([record[name] for record in metrics])
            expected = np.average(values[inside], weights=(ends - starts)[inside])
            assert row[name] == pytest.approx(expected, rel=1e-12)
    assert judged.details["closeness"] == finished[1].details["closeness"]
    # The study itself keeps its window.
    assert load(tmp_path).study.window == (0.4, 0.8)


def test_judged_twice_leaves_both(sixteen):
    workdir, _ = sixteen
    result = load(workdir)
    paths = {result.judge(closeness=c).path for c in (1.2, 1.5)}
    paths |= {result.judge(window=(0.2, 0.9)).path, result.judge().path}
    assert len(paths) == 4 and all(path.exists() for path in paths)


def test_more_seeds_judged_by_hand_are_another_look(tmp_path, use_pool):
    use_pool(truth, spread=spread)
    run_study(study_config(), "sde_validity", tmp_path)
    assert list(records.read_sealed(tmp_path / "looks.json")) == ["128"]
    # Other seeds of a study that is not finished, such as those of a shard.
    more = build(study_config(num_seeds=5, max_num_seeds=5))
    grid = [spec for spec in more.specs(more.first_plan()) if spec.seed >= 2]
    identity = records.read_sealed(tmp_path / "environment.json")["identity"]
    recording = dataclasses.replace(more.recording, identity=identity)
    make_pool(truth, spread=spread)(None, recording, tmp_path, 1, None).execute(grid, None)
    before = files_of(tmp_path)
    loaded = load(tmp_path)
    assert loaded.details["verdicts"][0]["look"] == 2
    assert files_of(tmp_path) == before  # who only reads does not look
    judged = loaded.judge()
    assert judged.details["verdicts"][0]["look"] == 2
    # The ends of the intervals err with 5 % 2^-2 now.
    assert "97.5 % at the second look" in judged.details["judged"]["correction"]
    ells = ("1", "2", "4", "8")
    looks = [dict.fromkeys(ells, 2), dict.fromkeys(ells, 5)]
    assert records.read_sealed(tmp_path / "looks.json") == {"128": looks}
    # The same runs, by another rule: not a third look.
    again = load(tmp_path).judge(closeness=1.2)
    assert again.details["verdicts"][0]["look"] == 2
    assert records.read_sealed(tmp_path / "looks.json") == {"128": looks}


def test_report_of_a_judgement_is_its_own(sixteen):
    workdir, _ = sixteen
    before = (workdir / "report.html").read_bytes()
    judged = load(workdir).judge(closeness=1.2)
    assert "invalid" in judged.report.read_text("utf-8")
    assert judged.report != workdir / "report.html"
    assert (workdir / "report.html").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"closeness": 1.0}, "closeness=1.0"),
        ({"closeness": "wide"}, "closeness='wide'"),
        ({"window": (0.8, 0.4)}, "window.*0.8, 0.4"),
        ({"window": (0.5,)}, "window.*0.5"),
        ({"window": (0.0, 0.01)}, "window"),
        ({"criterion": "weight_norm"}, "linear scaling.*sde_validity"),
    ],
)
def test_wrong_judgements(sixteen, changes, message):
    workdir, _ = sixteen
    before = files_of(workdir)
    with pytest.raises(ValueError, match=message):
        load(workdir).judge(**changes)
    assert files_of(workdir) == before


def test_criterion_of_linear_scaling(tmp_path, use_pool):
    use_pool(scaling_world({4.0: (1.0, 3.0, 1.0)}))
    result = run_study(scaling_config(), "linear_scaling", tmp_path)
    outcome = {s["kappa"]: s["outcome"] for s in result.details["settings"]}
    assert outcome[4.0] == "fails"
    judged = load(tmp_path).judge(criterion="weight_norm")
    assert judged.details["criterion"] == "weight_norm"
    assert {s["outcome"] for s in judged.details["settings"]} == {"base", "holds"}
    assert records.read_json(tmp_path / "verdict.json")["criterion"] == "closeness"
    with pytest.raises(ValueError, match="criterion='loss'"):
        load(tmp_path).judge(criterion="loss")


def test_unfinished_study_has_a_provisional_verdict(tmp_path, use_pool):
    class Pool(make_pool(truth, spread=spread)):
        def execute(self, grid, on_steps):
            super().execute([run for run in grid if run.seed < 3], on_steps)
            raise preemption.PreemptedError()

    use_pool(pool=Pool, draw=True)
    with pytest.raises(preemption.PreemptedError):
        run_study(study_config(num_seeds=8, max_num_seeds=8), "sde_validity", tmp_path)
    before = files_of(tmp_path)
    loaded = load(tmp_path)
    assert [s["num_seeds"] for s in loaded.details["settings"]] == [3, 3, 3, 3]
    assert loaded.verdict in (theory.VALID, theory.INVALID, theory.INCONCLUSIVE)
    assert loaded.plot() is not None
    assert files_of(tmp_path) == before


def test_nothing_finished_yet(tmp_path, use_pool):
    class Pool(make_pool(truth)):
        def execute(self, grid, on_steps):
            raise preemption.PreemptedError()

    use_pool(pool=Pool)
    with pytest.raises(preemption.PreemptedError):
        run_study(study_config(), "sde_validity", tmp_path)
    with pytest.raises(ValueError, match="finished runs.*0 "):
        load(tmp_path)


# Folders that are no study.


def test_no_study(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere", file):
        with pytest.raises(ValueError, match="workdir.*study"):
            load(path)


def change(workdir, name, **fields):
    content = records.read_sealed(workdir / name)
    records.write_sealed(workdir / name, {**content, **fields})


@pytest.mark.parametrize("study", ["train", "lottery", None, ["sde_validity"]])
def test_folder_of_another_kind(sixteen, study):
    workdir, _ = sixteen
    change(workdir, "config.json", study=study, train={"batch_size": 8, "ell": 1.0})
    with pytest.raises(ValueError, match="workdir.*study"):
        load(workdir)


@pytest.mark.parametrize("version", ["99.0", "1000.0.0", "99"])
def test_study_of_a_newer_version(sixteen, version):
    workdir, _ = sixteen
    change(workdir, "environment.json", versions={"keras_svag": version})
    with pytest.raises(ValueError, match=f"{version}.*Upgrade"):
        load(workdir)


def test_study_without_facts(sixteen):
    workdir, _ = sixteen
    setting = records.read_sealed(workdir / "environment.json")
    del setting["facts"]
    records.write_sealed(workdir / "environment.json", setting)
    with pytest.raises(ValueError, match="workdir"):
        load(workdir)


@pytest.mark.parametrize("name", ["config.json", "environment.json"])
def test_damaged_files(sixteen, name):
    workdir, _ = sixteen
    next(workdir.rglob(name)).write_text('{"seed')
    with pytest.raises(ValueError, match=f"{name}.*damaged"):
        load(workdir)
