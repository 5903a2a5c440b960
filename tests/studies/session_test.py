"""Stages of runs under one progress bar, and what they cost."""

import sys

import pytest

from keras_svag.engine import progress
from keras_svag.engine.execution import DONE, FAILED
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import GAUSSIAN, SVAG, RunSpec, describe_cost
from keras_svag.studies.base import checks
from keras_svag.studies.base.session import Session
from tests.studies.helpers import build, study_config


def test_cost_of_both_methods():
    # By hand. SVAG: 100 effective steps at ell = 2 are 200 steps of two gradients of 8 examples.
    # Gaussian: 10 steps at m = 1, each of all 1440 examples, which are 90 batches of 16.
    grid = [RunSpec(8, 0.2, 2.0, 0, 100), RunSpec(16, 0.4, 1.0, 0, 10, GAUSSIAN)]
    assert 400 * 8 + 10 * 1440 == 17600
    assert describe_cost(grid, 1440) == "To do: 2 runs, 210 steps, 17,600 examples."
    assert describe_cost(grid[:1], 1440, num_workers=2) == (
        "To do: 1 run on 2 workers, 200 steps, 3,200 examples."
    )


class Study:
    """Stages without names, each followed by a call."""

    stage_names = ()

    def __init__(self, on_stage=lambda *arguments: None):
        self.on_stage = on_stage


class Pool:
    """Every run takes all its steps at once; those of seed 1 fail."""

    def execute(self, grid, on_steps):
        results = {}
        for run in grid:
            on_steps(run, run.steps)
            failed = {"status": FAILED, "message": "diverged"}
            results[run.name] = failed if run.seed == 1 else {"status": DONE}
        return results


def leave_result(workdir, run):
    path = workdir / "runs" / run.name / "result.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")


def test_finished_runs_cost_nothing(tmp_path, capsys):
    grid = [RunSpec(8, 0.2, 1.0, seed, 100) for seed in (0, 2)]
    leave_result(tmp_path, grid[0])
    Session(Pool(), 1440, tmp_path, show_progress=False).execute(Study(), [grid])
    assert capsys.readouterr() == ("", "")
    Session(Pool(), 1440, tmp_path).execute(Study(), [grid])
    said = capsys.readouterr().err.splitlines()[0]
    assert "1 run, 100 steps, 1,600 examples" in said and "Finished before: 1" in said


def test_stages_come_one_after_the_other_under_one_bar(monkeypatch, tmp_path, capsys):
    shown = []
    advance = progress.Progress.advance

    def spy(self, run, steps):
        is_last = advance(self, run, steps)
        shown.append(self.describe())
        return is_last

    monkeypatch.setattr(progress.Progress, "advance", spy)
    first, second, full = (
        RunSpec(8, 0.2, 1.0, 0, 10),
        RunSpec(16, 0.4, 2.0, 1, 5),
        RunSpec(8, 0.2, 1.0, 0, 3, GAUSSIAN),
    )
    stages = [[first], [second, full], []]
    seen = []

    def on_stage(index, specs, results, workdir):
        assert specs == stages[index] and workdir == tmp_path
        seen.append([run for run in results if run in [spec.name for spec in specs]])

    found = Session(Pool(), 100, tmp_path).execute(Study(on_stage), stages)
    assert set(found) == {run.name for stage in stages for run in stage}
    assert seen == [[run.name for run in stage] for stage in stages]
    assert shown == [
        "stage 1 of 3: 1 of 3 runs.",
        "stage 2 of 3: 2 of 3 runs.",
        "stage 2 of 3: 3 of 3 runs.",
    ]
    # The message of the run that failed.
    assert capsys.readouterr().err.splitlines()[1:] == ["diverged"]


@pytest.mark.parametrize("method", [SVAG, GAUSSIAN])
def test_only_drawn_batches_must_fit(method):
    recipe = build(study_config(sampling="without_replacement")).recipe
    grid = [RunSpec(2000, 0.2, 1.0, 0, 20, method)]
    if method == SVAG:
        with pytest.raises(ValueError, match="batch_size=2000"):
            checks.check_runs(recipe, grid, Recording(), (0.4, 0.8))
    else:
        checks.check_runs(recipe, grid, Recording(), (0.4, 0.8))


class Gone:
    """A stream whose reader went away."""

    encoding = "utf-8"

    def write(self, text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [None, Gone()], ids=["closed", "reader gone"])
def test_e12_progress_without_a_stream(monkeypatch, stream):
    # In a script of one's own; trainers replace the streams.
    run = RunSpec(8, 0.2, 1.0, 0, 10)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    with progress.Progress(1000) as bar:
        bar.begin([run])
        progress.announce("to do")
        for _ in range(10):
            bar.advance(run, 1)
        bar.write("a message")
