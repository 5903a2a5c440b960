"""Tests of keras_svag/study/grid.py."""

import pytest

from keras_svag.study import grid as grid_module
from keras_svag.study import progress, records, runs
from keras_svag.study.grid import announce_cost, describe_cost, execute_stages
from keras_svag.study.runs import Run


def test_cost_of_both_methods():
    # By hand. SVAG: 100 effective steps at ell = 2 are 200 steps of two gradients of 8 examples.
    # Gaussian: 10 steps at m = 1, each of all 1440 examples, which are 90 batches of 16.
    grid = [Run(8, 0.2, 2.0, 0, 100), Run(16, 0.4, 1.0, 0, 10, runs.GAUSSIAN)]
    assert describe_cost(grid, 1440) == (
        "To do: 2 runs, 210 steps, 1,300 gradients of a batch, 17,600 examples."
    )
    assert 400 * 8 + 10 * 1440 == 17600 and 400 + 10 * 90 == 1300


def test_finished_runs_cost_nothing(tmp_path, capsys):
    grid = [Run(8, 0.2, 1.0, seed, 100) for seed in (0, 1)]
    records.write_json(tmp_path / "runs" / grid[0].name / "result.json", {"status": "done"})
    announce_cost(grid, 1440, tmp_path, show_progress=False)
    assert capsys.readouterr() == ("", "")
    announce_cost(grid, 1440, tmp_path)
    assert capsys.readouterr().err == (
        "To do: 1 run, 100 steps, 200 gradients of a batch, 1,600 examples. Finished before: 1.\n"
    )


def test_stages_come_one_after_the_other_under_one_bar(monkeypatch, tmp_path):
    events = []

    class Bar:
        n = initial = 0

        def __init__(self, total, **_):
            self.total = total
            events.append(total)

        def close(self):
            events.append("closed")

        def update(self, amount):
            self.n += amount
            events.append((amount, self.initial))

        def write(self, message):
            events.append(message)

    class Pool:
        def execute(self, grid, on_steps):
            for run in grid:
                on_steps(run, run.steps)
            failed = {"status": runs.FAILED, "message": "diverged"}
            return {run.name: failed if run.seed else {"status": runs.DONE} for run in grid}

    monkeypatch.setattr(progress, "tqdm", Bar)
    first, second, full = (
        Run(8, 0.2, 1.0, 0, 10),
        Run(16, 0.4, 2.0, 0, 5),
        Run(8, 0.2, 1.0, 1, 3, runs.GAUSSIAN),
    )
    # Of the first nothing is to be done: it counts, but not as work.
    records.write_json(tmp_path / "runs" / first.name / "result.json", {"status": "done"})
    stages = [[first], [second, full], []]
    seen = []
    for results in execute_stages(Pool(), stages, 100, tmp_path):
        events.append("stage")
        seen.append(list(results))
    # 10 steps of 2 x 8 gradients, 10 of 2 x 16, three of all 100 examples.
    assert events[:3] == [160 + 320 + 300, (160, 160), "stage"]
    assert events[3:] == [(320, 160), (300, 160), "diverged", "stage", "stage", "closed"]
    assert seen == [[run.name for run in stage] for stage in stages]


def test_estimate_comes_once_after_a_minute(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 70.0, 80.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    old, run = Run(8, 0.2, 1.0, 0, 100), Run(8, 0.2, 1.0, 1, 100)
    bar = progress.Progress([old, run], 1000, finished=[old.name])
    told = []
    monkeypatch.setattr(bar, "write", told.append)
    for which, steps in [(old, 100), (run, 20), (run, 10)]:
        bar.advance(which, steps)
    # After 70 s 20 of 100 steps were taken, 80 are left: four times as long.
    assert told == ["Estimate: 5 min left."]


@pytest.mark.parametrize("method", [runs.SVAG, runs.GAUSSIAN])
def test_only_drawn_batches_must_fit(method, dataset, config):
    grid = [Run(2000, 0.2, 1.0, 0, 20, method)]
    config = config | {"sampling": "without_replacement"}
    if method == runs.SVAG:
        with pytest.raises(ValueError, match="Received: batch_size=2000"):
            grid_module.check_buildable(config, dataset, grid)
    else:
        grid_module.check_buildable(config, dataset, grid)
