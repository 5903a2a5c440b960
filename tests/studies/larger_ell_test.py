"""A study that adds an ell, stopped on the way: the same plan, looks and records as without."""

import pytest

from keras_svag.engine.files import records
from keras_svag.engine.processes import preemption
from keras_svag.studies import load
from keras_svag.studies.status import read_status
from tests.studies.helpers import files_of, run_study, study_config
from tests.studies.synthetic import make_pool

CONFIG = study_config(
    num_seeds=2,
    max_num_seeds=2,
    sde_validity={"batch_sizes": [8], "ells": [1.0, 2.0, 4.0, 8.0], "max_ell": 32.0},
)


def slow(run):
    """Far from asymptotic at l = 8, where the limit of G is still out of sight."""
    return 1.0, 1.0, 1 + 0.5 * 6 / (run.ell + 5)


def pool_that_stops(at=None):
    base = make_pool(slow, spread=lambda run: 0.001)

    class Pool(base):
        def _execute(self, run):
            if run.name == at:
                raise preemption.PreemptedError()
            return super()._execute(run)

    return Pool


def run(use_pool, workdir, at=None):
    use_pool(pool=pool_that_stops(at))
    return run_study(CONFIG, "sde_validity", workdir)


@pytest.mark.parametrize("at", ["b8_ell16_seed0", "b8_ell16_seed1", "b8_ell32_seed0"])
def test_stopped_and_resumed(use_pool, tmp_path, at):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = run(use_pool, whole)
    assert len(expected.details["extensions"]) == 2
    with pytest.raises(preemption.PreemptedError):
        run(use_pool, stopped, at)
    assert not (stopped / "verdict.json").exists()
    # Looks are on record before anything is added, so that none is counted twice.
    looks, all_looks = (records.read_sealed(w / "looks.json")["8"] for w in (stopped, whole))
    assert looks == all_looks[: len(looks)] and len(looks) == (2 if "32" in at else 1)
    before = files_of(stopped)
    found = load(stopped)
    assert found.verdict == "inconclusive" and files_of(stopped) == before
    # All runs of the first plan are finished, but not those that have been added.
    planned = 2 * (5 if "16" in at else 6)
    text = "provisional</span> {} of the {} planned runs"
    missing = planned - len(found.table)
    assert missing and text.format(missing, planned) in found.report.read_text("utf-8")
    found.report.unlink()
    assert read_status(stopped).planned == planned
    assert "provisional</span>" not in expected.report.read_text("utf-8")
    result = run(use_pool, stopped)
    assert result.details["extensions"] == expected.details["extensions"]
    left = [files_of(w, ".lock", "report.html", "environment.json") for w in (stopped, whole)]
    assert sorted(left[0]) == sorted(left[1])
    different = [name for name in left[1] if left[0][name] != left[1][name]]
    assert [name for name in different if not name.startswith("tensorboard")] == []


def test_finished_study_is_the_same_again(use_pool, tmp_path):
    first = run(use_pool, tmp_path)
    first_verdicts = records.to_json(first.details["verdicts"])
    before = files_of(tmp_path, "report.html", "environment.json")
    again = run(use_pool, tmp_path)
    assert records.to_json(again.details) == records.to_json(first.details)
    assert [entry["look"] for entry in again.details["verdicts"]] == [3]
    assert files_of(tmp_path, "report.html", "environment.json") == before
    # Who reads the folder finds the ells that were added.
    assert records.to_json(load(tmp_path).details["verdicts"]) == first_verdicts
