"""Tests of keras_svag/engine/files/results.py: a result is that of its run, or damaged."""

import dataclasses
import json
import pickle
import re

import pytest

from keras_svag.engine.files import records, results
from keras_svag.engine.spec import BranchSpec, RunSpec
from keras_svag.engine.state import RunFolder

SPEC = RunSpec(8, 0.1, 2.0, 1, 4)
BRANCH = BranchSpec(16, 0.2, 1.0, 0, 4, base_batch_size=8, base_learning_rate=0.1, base_total=2)
ROWS = [{"step": 2, "loss": 0.5}, {"step": 4, "loss": 0.25}]
CONTENT = {"status": "done", "seconds": 1.5, "identity": "abc", "versions": {"keras": "3.15.1"}}


def write(root, spec=SPEC, **changes):
    """Writes result and records of a run; returns its folder."""
    folder = RunFolder(root, spec.name)
    folder.path.mkdir(parents=True)
    folder.metrics.write_text(records.to_jsonl(ROWS))
    results.write(folder, spec, CONTENT | changes, ROWS)
    return folder


def damage(folder):
    """Returns what is wrong with a result; also says it from a worker process."""
    with pytest.raises(results.DamagedRunError) as caught:
        results.read(folder, SPEC, "abc")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.path, str(copy)) == (caught.value.path, str(caught.value))
    assert f"`{copy.path}` is damaged: {copy.problem}. Repeat the command" in str(copy)
    return copy


def test_content_of_the_file(tmp_path):
    folder = write(tmp_path)
    digest = records.sha256(b'{"step": 2, "loss": 0.5}\n{"step": 4, "loss": 0.25}\n')
    expected = {**dataclasses.asdict(SPEC), "name": SPEC.name, **CONTENT}
    expected["records_sha256"] = digest
    assert results.read(folder, SPEC, "abc") == results.read(folder) == expected
    assert json.loads(folder.result.read_text()).keys() == expected.keys() | {"sha256"}
    assert results.read_rows(folder) == ROWS


@pytest.mark.parametrize("spec", [SPEC, BRANCH], ids=["run", "branch"])
def test_spec_comes_back(tmp_path, spec):
    found = results.spec_of(results.read(write(tmp_path, spec), spec, "abc"))
    assert found == spec and type(found) is type(spec)


def test_no_result_is_no_damage_but_has_no_rows(tmp_path):
    folder = RunFolder(tmp_path, SPEC.name)
    assert results.read(folder, SPEC, "abc") is None
    with pytest.raises(results.DamagedRunError, match="it is missing"):
        results.read_rows(folder)


def test_result_of_another_run(tmp_path):
    folder = write(tmp_path)
    longer = dataclasses.replace(SPEC, total=5)  # has the same name
    assert longer.name == SPEC.name
    with pytest.raises(results.DamagedRunError, match="it is of another run, .*total=4"):
        results.read(folder, longer, "abc")
    folder.path.rename(folder.path.with_name("copy"))
    with pytest.raises(results.DamagedRunError, match="it is of another run"):
        results.read(RunFolder(tmp_path, "copy"))


def test_result_of_another_study(tmp_path):
    folder = write(tmp_path, identity="def")
    assert damage(folder).problem == "it is of another study ('def' instead of 'abc')"
    assert results.read(folder, SPEC)["identity"] == "def"


@pytest.mark.parametrize("status", ["locked", "running", None])
def test_status_that_no_finished_run_has(tmp_path, status):
    assert damage(write(tmp_path, status=status)).problem == f"its status is {status!r}"
    assert results.read(write(tmp_path / "2", status="failed"), SPEC, "abc")["status"] == "failed"


@pytest.mark.parametrize("field", results.FIELDS)
def test_sealed_result_without_a_field(tmp_path, field):
    folder = write(tmp_path)
    content = records.read_sealed(folder.result)
    del content[field]
    records.write_sealed(folder.result, content)
    assert damage(folder).problem == f"it has no {field}"


@pytest.mark.parametrize(
    "change", [{"ell": None}, {"ell": "2"}, {"method": "sgd"}, {"method": "branch"}]
)
def test_sealed_result_that_names_no_run(tmp_path, change):
    folder = write(tmp_path)
    records.write_sealed(folder.result, records.read_sealed(folder.result) | change)
    assert re.fullmatch(r"it names no run \(.+\)", damage(folder).problem)


def test_records_that_are_none_although_they_have_the_digest(tmp_path):
    folder = write(tmp_path)
    folder.metrics.write_text("no row\n")
    digest = {"records_sha256": records.sha256(folder.metrics.read_bytes())}
    records.write_sealed(folder.result, records.read_sealed(folder.result) | digest)
    with pytest.raises(records.DamagedError, match=re.escape(f"`{folder.metrics}` is damaged")):
        results.read_rows(folder)


def test_damage_names_its_file(tmp_path):
    folder = write(tmp_path / "1")
    folder.metrics.write_text(records.to_jsonl(ROWS[:1]))
    found = damage(folder)
    assert (found.path, found.problem) == (
        folder.metrics,
        "its SHA-256 is not the one in `result.json`",
    )
    folder.metrics.unlink()
    assert damage(folder).path == folder.metrics
    folder.result.write_text("{")
    assert damage(folder).path == folder.result
