"""Tests of keras_svag/studies/base/outlook.py: what a study says while runs are missing."""

import pytest

from keras_svag.engine.files import records, results
from keras_svag.engine.progress import Progress
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.studies.base import outlook
from keras_svag.studies.base.outlook import Outlook
from keras_svag.theory.outcomes import describe_observed, so_far

IDENTITY = "this study"


class Study:
    """Judges by the number of finished runs; two more seeds while there are less than four."""

    def __init__(self, error=None):
        self.error, self.judged = error, []

    def specs(self, plan):
        return [RunSpec(8, 0.2, 1.0, seed, 10) for seed in range(plan[8])]

    def can_judge(self, specs):
        return bool(specs)

    def evaluate(self, specs, found, workdir):
        self.judged.append([spec.seed for spec in specs])
        if self.error is not None:
            raise self.error
        assert list(found) == [spec.name for spec in specs]
        return {"count": len(specs)}, []

    def extend_plan(self, details, plan):
        return {8: plan[8] + 2} if details["count"] < 4 else {}

    def describe_outlook(self, details):
        return f"B=8 undecided, {details['count']} seeds"


def finish(workdir, seed, identity=IDENTITY):
    spec = RunSpec(8, 0.2, 1.0, seed, 10)
    folder, rows = RunFolder(workdir, spec.name), [{"step": 10}]
    records.make_folder(folder.path, parents=True)
    records.write_text(folder.metrics, records.to_jsonl(rows))
    content = {"status": "done", "seconds": 1.0, "identity": identity, "versions": {}}
    results.write(folder, spec, content, rows)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(outlook.time, "monotonic", lambda: now[0])
    return now


def test_it_says_what_finished_runs_show_and_counts_likely_ones(tmp_path, clock):
    study, progress = Study(), Progress(1000)
    teller = Outlook(study, {8: 4}, tmp_path, IDENTITY, progress)
    teller.update()
    assert study.judged == [] and progress.describe() == "0 of 0 runs, starting."
    for seed in (0, 2):
        finish(tmp_path, seed)
    finish(tmp_path, 1, identity="another study")  # damaged, for this one
    teller.update()
    assert study.judged == []
    finish(tmp_path, 1)
    teller.update()
    assert study.judged == [[0, 1, 2]]
    assert progress.describe() == "0 of 0 runs, starting. B=8 undecided, 3 seeds."
    assert [spec.seed for spec in progress._likely] == [4, 5]


def test_it_takes_a_small_part_of_the_time(tmp_path, clock):
    study = Study()
    finish(tmp_path, 0)
    evaluate = study.evaluate

    def slow(*arguments):
        clock[0] += 2.0
        return evaluate(*arguments)

    study.evaluate = slow
    teller = Outlook(study, {8: 4}, tmp_path, IDENTITY, Progress(1000))
    for _ in range(1000):
        clock[0] += 0.2
        teller.update()
    assert len(study.judged) * 2.0 <= 0.06 * clock[0]


@pytest.mark.parametrize("error", [ValueError("too few"), KeyError("ratios"), OSError("gone")])
def test_a_provisional_verdict_never_ends_a_study(tmp_path, error):
    finish(tmp_path, 0)
    progress = Progress(1000)
    study = Study(error)
    Outlook(study, {8: 4}, tmp_path, IDENTITY, progress).update()
    assert study.judged == [[0]] and progress.describe() == "0 of 0 runs, starting."


def test_nothing_is_judged_where_nobody_sees_it(tmp_path):
    finish(tmp_path, 0)
    study = Study()
    Outlook(study, {8: 4}, tmp_path, IDENTITY, Progress(1000, show=False)).update()
    assert study.judged == []


@pytest.mark.parametrize(
    ("value", "failure", "words"),
    [
        (None, None, "no run at the base batch size finished"),
        (1.0, None, "undecided at all larger batch sizes"),
        (1.0, 2.0, "holds up to 1, first fails at 2"),
        (4.0, None, "holds up to 4, no failure seen"),
    ],
)
def test_words_for_the_largest_kappa(value, failure, words):
    assert describe_observed({"value": value, "first_failure": failure}) == words


def test_words_for_an_outcome_that_may_change():
    assert [so_far(word) for word in ("valid", "inconclusive")] == ["valid so far", "undecided"]
