"""Studies cut in shards: every run once, and the verdict of the whole study."""

import pytest

from configs.digits import get_config
from keras_svag.engine.files import results
from keras_svag.engine.state import RunFolder
from keras_svag.studies import SDEValidity
from keras_svag.studies.base import study as study_module
from tests.studies.helpers import build, hide_figures
from tests.studies.synthetic import make_pool

STUDIES = ("sde_validity", "linear_scaling", "branched_batch_size", "noisy_gradient_descent")


def truth(run):
    return 50.0, 2.0 / run.batch_size, 1.0


def counting_pool(trained):
    """A synthetic pool that leaves result files and notes the runs that it makes."""
    base = make_pool(truth, lambda run: 0.05)

    class CountingPool(base):
        def _execute(self, run):
            path = RunFolder(self._workdir, run.name).result
            if not path.exists():
                trained.append(run.name)
                super()._execute(run)
            return results.read(RunFolder(self._workdir, run.name))

    return CountingPool


def config_of(**changes):
    config = get_config("quick").to_dict()
    config["num_seeds"] = config["max_num_seeds"] = 3
    return config | changes


@pytest.fixture
def run(monkeypatch):
    """Runs a study in a folder; gives what it returns and the runs that it trained."""
    hide_figures(monkeypatch)  # most of the time otherwise

    def start(name, workdir, shard=None, config=None):
        trained = []
        monkeypatch.setattr(study_module, "RunPool", counting_pool(trained))
        study = build(config or config_of(), name)
        return study.run(workdir, shard=shard, show_progress=False, command=["c"]), trained

    return start


def verdict_of(workdir):
    return (workdir / "verdict.json").read_bytes()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("name", STUDIES)
def test_shards_one_after_the_other(name, order, tmp_path, run):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _, expected = run(name, whole)
    every = []
    for index in order:
        result, trained = run(name, cut, f"{index}/3")
        assert trained, index
        every += trained
        is_last = index == order[-1]
        assert (result is not None) == is_last == (cut / "verdict.json").exists()
    # Together they did each run once; the last one found all others and judged.
    assert sorted(every) == sorted(expected)
    assert verdict_of(cut) == verdict_of(whole)
    # Once more, in whatever way: nothing is trained again.
    for shard in ("2/3", None):
        result, trained = run(name, cut, shard)
        assert trained == [] and verdict_of(cut) == verdict_of(whole)


def test_gathering_does_what_is_missing(tmp_path, run):
    _, expected = run("sde_validity", tmp_path / "whole")
    _, first = run("sde_validity", tmp_path / "cut", "1/4")
    result, rest = run("sde_validity", tmp_path / "cut")
    assert sorted(first + rest) == sorted(expected) and first and rest
    assert verdict_of(tmp_path / "cut") == verdict_of(tmp_path / "whole")


def test_prediction_precedes_the_other_runs_of_any_shard(tmp_path, run):
    # The first shard does all base runs, whosoever they are, and then its part of the others.
    _, trained = run("linear_scaling", tmp_path, "1/3")
    study = build(config_of(), "linear_scaling")
    base = {spec.name for spec in study.stages(study.specs(study.first_plan()))[0]}
    assert set(trained[:3]) == base and 0 < len(trained) - 3 < 6
    predicted = (tmp_path / "prediction.json").stat().st_mtime_ns
    for name in trained:
        result = tmp_path / "runs" / name / "result.json"
        assert (result.stat().st_mtime_ns < predicted) == (name in base)
    before = (tmp_path / "prediction.json").read_bytes()
    _, trained = run("linear_scaling", tmp_path, "2/3")
    assert not base & set(trained) and (tmp_path / "prediction.json").read_bytes() == before


def test_more_seeds_are_shared_too(tmp_path, run, monkeypatch):
    # Inconclusive at 2 seeds: the grid grows when all runs so far are there, each time for all.
    config = config_of(num_seeds=2, max_num_seeds=4)

    def always(study, details, plan):
        return {size: (4, ells) for size, (count, ells) in plan.items() if count < 4}

    monkeypatch.setattr(SDEValidity, "extend_plan", always)
    _, expected = run("sde_validity", tmp_path / "whole", config=config)
    every = []
    for shard in ("1/2", "2/2", "1/2"):
        result, trained = run("sde_validity", tmp_path / "cut", shard, config)
        every += trained
    assert result is not None and sorted(every) == sorted(expected) and len(set(every)) == 32
    assert verdict_of(tmp_path / "cut") == verdict_of(tmp_path / "whole")


def test_wrong_shard_leaves_nothing(tmp_path, run):
    with pytest.raises(ValueError, match="`shard` must be i/n"):
        run("sde_validity", tmp_path / "x", "4/3")
    assert not (tmp_path / "x").exists()
