"""Studies cut in shards: every run once, and the verdict of the whole study."""

import pytest
from keras_svag.study import (
    linear_scaling,
    noisy_gradient_descent,
    records,
    run_linear_scaling,
    run_noisy_gradient_descent,
    run_sde_validity,
    runs,
    sde_validity,
)
from keras_svag.study.config import validate_config
from tests.study.synthetic import make_pool

from configs.digits import get_config

STUDIES = {
    "sde_validity": (sde_validity, run_sde_validity),
    "linear_scaling": (linear_scaling, run_linear_scaling),
    "noisy_gradient_descent": (noisy_gradient_descent, run_noisy_gradient_descent),
}


def truth(run):
    return 50.0, 2.0 / run.batch_size, 1.0


def counting_pool(trained):
    """A synthetic pool that leaves result files and notes the runs that it makes."""
    base = make_pool(truth, lambda run: 0.05)

    class CountingPool(base):
        def _execute(self, run):
            path = runs.RunFolder(self._workdir, run.name).result
            if not path.exists():
                trained.append(run.name)
                records.write_json(path, super()._execute(run))
            return records.read_json(path)

    return CountingPool


def config_of(**changes):
    config = get_config("quick").to_dict()
    config["num_seeds"] = config["max_num_seeds"] = 3
    return config | changes


@pytest.fixture
def run_study(monkeypatch):
    """Runs a study in a folder; gives what it returns and the runs that it trained."""

    def run(name, workdir, shard=None, config=None):
        module, study = STUDIES[name]
        trained = []
        monkeypatch.setattr(module, "RunPool", counting_pool(trained))
        for draw in ("draw_sde_validity", "draw_linear_scaling", "draw_arms"):
            monkeypatch.setattr(module.figures, draw, lambda *_: [])  # most of the time otherwise
        verdict = study(config or config_of(), workdir, ["c"], show_progress=False, shard=shard)
        return verdict, trained

    return run


def verdict_of(workdir):
    return (workdir / "verdict.json").read_bytes()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)], ids=str)
@pytest.mark.parametrize("name", STUDIES)
def test_shards_one_after_the_other(name, order, tmp_path, run_study):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _, expected = run_study(name, whole)
    every = []
    for index in order:
        verdict, trained = run_study(name, cut, f"{index}/3")
        assert trained, index
        every += trained
        is_last = index == order[-1]
        assert (verdict is not None) == is_last == (cut / "verdict.json").exists()
    # Together they did each run once; the last one found all others and judged.
    assert sorted(every) == sorted(expected)
    assert verdict_of(cut) == verdict_of(whole)
    # Once more, in whatever way: nothing is trained again.
    for shard in ("2/3", None):
        verdict, trained = run_study(name, cut, shard)
        assert trained == [] and verdict_of(cut) == verdict_of(whole)


def test_gathering_does_what_is_missing(tmp_path, run_study):
    _, expected = run_study("sde_validity", tmp_path / "whole")
    _, first = run_study("sde_validity", tmp_path / "cut", "1/4")
    verdict, rest = run_study("sde_validity", tmp_path / "cut")
    assert sorted(first + rest) == sorted(expected) and first and rest
    assert verdict_of(tmp_path / "cut") == verdict_of(tmp_path / "whole")


def test_prediction_precedes_the_other_runs_of_any_shard(tmp_path, run_study):
    # The first shard does all base runs, whosoever they are, and then its part of the others.
    _, trained = run_study("linear_scaling", tmp_path, "1/3")
    config = validate_config(config_of(), "linear_scaling")
    base = {run.name for run in linear_scaling.build_grid(config, 1437)[8]}
    assert set(trained[:3]) == base and 0 < len(trained) - 3 < 6
    predicted = (tmp_path / "prediction.json").stat().st_mtime_ns
    for name in trained:
        result = tmp_path / "runs" / name / "result.json"
        assert (result.stat().st_mtime_ns < predicted) == (name in base)
    before = (tmp_path / "prediction.json").read_bytes()
    _, trained = run_study("linear_scaling", tmp_path, "2/3")
    assert not base & set(trained) and (tmp_path / "prediction.json").read_bytes() == before


def test_more_seeds_are_shared_too(tmp_path, run_study, monkeypatch):
    # Inconclusive at 3 seeds: the grid grows when all runs so far are there, each time for all.
    config = config_of(num_seeds=2, max_num_seeds=4)
    more = sde_validity._seeds_to_add

    def always(verdict, num_seeds, config):
        return {size: 4 for size, count in num_seeds.items() if count < 4}

    assert more is not always
    monkeypatch.setattr(sde_validity, "_seeds_to_add", always)
    _, expected = run_study("sde_validity", tmp_path / "whole", config=config)
    every = []
    for shard in ("1/2", "2/2", "1/2"):
        verdict, trained = run_study("sde_validity", tmp_path / "cut", shard, config)
        every += trained
    assert verdict is not None and sorted(every) == sorted(expected) and len(set(every)) == 24
    assert verdict_of(tmp_path / "cut") == verdict_of(tmp_path / "whole")


def test_wrong_shard_leaves_nothing(tmp_path, run_study):
    with pytest.raises(ValueError, match="`shard` must be i/n"):
        run_study("sde_validity", tmp_path / "x", "4/3")
    assert not (tmp_path / "x").exists()
