"""Stages of runs under one progress bar, and what they cost."""

import pytest

from keras_svag.engine import progress
from keras_svag.engine.execution import DONE, FAILED
from keras_svag.engine.files import records
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import GAUSSIAN, SVAG, RunSpec, describe_cost
from keras_svag.studies.base import checks
from keras_svag.studies.base.session import Session
from tests.studies.helpers import build, study_config


def test_cost_of_both_methods():
    # By hand. SVAG: 100 effective steps at ell = 2 are 200 steps of two gradients of 8 examples.
    # Gaussian: 10 steps at m = 1, each of all 1440 examples, which are 90 batches of 16.
    grid = [RunSpec(8, 0.2, 2.0, 0, 100), RunSpec(16, 0.4, 1.0, 0, 10, GAUSSIAN)]
    assert describe_cost(grid, 1440) == (
        "To do: 2 runs, 210 steps, 1,300 gradients of a batch, 17,600 examples."
    )
    assert 400 * 8 + 10 * 1440 == 17600 and 400 + 10 * 90 == 1300


class Pool:
    """Every run takes all its steps at once; those of seed 1 fail."""

    def execute(self, grid, on_steps):
        results = {}
        for run in grid:
            on_steps(run, run.steps)
            failed = {"status": FAILED, "message": "diverged"}
            results[run.name] = failed if run.seed == 1 else {"status": DONE}
        return results


def test_finished_runs_cost_nothing(tmp_path, capsys):
    grid = [RunSpec(8, 0.2, 1.0, seed, 100) for seed in (0, 2)]
    (tmp_path / "runs" / grid[0].name).mkdir(parents=True)
    records.write_json(tmp_path / "runs" / grid[0].name / "result.json", {"status": "done"})
    Session(Pool(), 1440, tmp_path, show_progress=False).execute([grid])
    assert capsys.readouterr() == ("", "")
    Session(Pool(), 1440, tmp_path).execute([grid])
    said = capsys.readouterr().err.splitlines()[0]
    assert "1 run, 100 steps, 200 gradients" in said and "Finished before: 1" in said


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

    monkeypatch.setattr(progress, "tqdm", Bar)
    first, second, full = (
        RunSpec(8, 0.2, 1.0, 0, 10),
        RunSpec(16, 0.4, 2.0, 0, 5),
        RunSpec(8, 0.2, 1.0, 1, 3, GAUSSIAN),
    )
    # Of the first nothing is to be done: it counts, but not as work.
    (tmp_path / "runs" / first.name).mkdir(parents=True, exist_ok=True)
    records.write_json(tmp_path / "runs" / first.name / "result.json", {"status": "done"})
    stages = [[first], [second, full], []]
    seen = []

    def on_stage(index, specs, results, workdir):
        assert specs == stages[index] and workdir == tmp_path
        events.append("stage")
        seen.append(list(results)[-len(stages[index]) :] if stages[index] else [])

    found = Session(Pool(), 100, tmp_path).execute(stages, on_stage)
    assert set(found) == {run.name for stage in stages for run in stage}
    # 10 steps of 2 x 8 gradients, 10 of 2 x 16, three of all 100 examples.
    assert events[:3] == [160 + 320 + 300, (160, 160), "stage"]
    assert events[3:] == [(320, 160), (300, 160), "diverged", "stage", "stage", "closed"]
    assert seen == [[run.name for run in stage] for stage in stages]


def test_estimate_comes_once_after_a_minute(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 70.0, 80.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    old, run = RunSpec(8, 0.2, 1.0, 0, 100), RunSpec(8, 0.2, 1.0, 1, 100)
    bar = progress.Progress([old, run], 1000, finished=[old.name])
    told = []
    monkeypatch.setattr(bar, "write", told.append)
    for which, steps in [(old, 100), (run, 20), (run, 10)]:
        bar.advance(which, steps)
    # After 70 s 20 of 100 steps were taken, 80 are left: four times as long.
    assert told == ["Estimated time left: 5 min"]


@pytest.mark.parametrize("method", [SVAG, GAUSSIAN])
def test_only_drawn_batches_must_fit(method):
    recipe = build(study_config(sampling="without_replacement")).recipe
    grid = [RunSpec(2000, 0.2, 1.0, 0, 20, method)]
    if method == SVAG:
        with pytest.raises(ValueError, match="batch_size=2000"):
            checks.check_runs(recipe, grid, Recording(), (0.4, 0.8))
    else:
        checks.check_runs(recipe, grid, Recording(), (0.4, 0.8))
