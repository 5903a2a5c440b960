"""Studies in an object store: fsspec's, in memory. tests/faults/object_store_test.py has S3."""

import os
import pathlib
import signal

import pytest

from keras_svag.engine.files import remote, storage
from keras_svag.engine.processes import preemption
from keras_svag.engine.progress import Progress
from keras_svag.engine.state import RunFolder
from keras_svag.studies import load
from tests.faults import quick_study
from tests.faults.kill_test import assert_same, left_behind
from tests.studies.helpers import build, files_of, run_study, study_config
from trainers import commands

fsspec = pytest.importorskip("fsspec", reason="remote folders need fsspec")

WRITING = ("pipe_file", "cp_file", "rm_file")


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture
def url():
    yield "memory://bucket/study"
    fsspec.filesystem("memory").store.clear()


def download(url, folder):
    """Copies a remote folder."""
    source = storage.to_path(url)
    for name in storage.sizes(source):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(storage.read(source / name))
    return folder


def kill_before(number, patch):
    """Lets no request that changes something through from this one on; returns those before."""
    call, before = remote._call, []

    def count(method, path, *arguments, **options):
        if method in WRITING:
            if len(before) == number:
                raise Killed
            before.append((method, path.name))
        return call(method, path, *arguments, **options)

    patch.setattr(remote, "_call", count)
    patch.setattr(os, "getpid", lambda: 2**22 + 1)  # of no process, as after a kill
    return before


@pytest.mark.skipif(os.name != "posix", reason="signal 0 is of POSIX")
@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)], ids=["few", "all"])
def test_e6_kill_between_any_two_requests(stride, url, monkeypatch, tmp_path):
    quick_study.patch_studies(monkeypatch)
    study = quick_study.make_study()
    expected = quick_study.run(study, tmp_path / "local")
    with monkeypatch.context() as patch:
        requests = kill_before(None, patch)
        study.run(url, show_progress=False, command=["study"])
    assert files_of(download(url, tmp_path / "whole")) == expected
    for number in range(0, len(requests), stride):
        fsspec.filesystem("memory").store.clear()
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_before(number, patch)
            study.run(url, show_progress=False, command=["study"])
        study.run(url, show_progress=False, command=["study"])
        assert files_of(download(url, tmp_path / str(number))) == expected, requests[number]


@pytest.fixture(scope="module")
def resumed():
    """A study in memory that was preempted in the middle and resumed, and its `Result`."""
    url, advance = "memory://bucket/resumed", Progress.advance
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, run, steps):
            advance(self, run, steps)
            if run.ell == 4 and steps:
                signal.raise_signal(signal.SIGTERM)

        patch.setattr(Progress, "advance", stop)
        with pytest.raises(preemption.PreemptedError):
            run_study(study_config(), "sde_validity", url)
    names = set(storage.sizes(storage.to_path(url)))
    assert any(name.endswith("latest.npz") for name in names) and "verdict.json" not in names
    yield url, run_study(study_config(num_workers=0), "sde_validity", url)
    fsspec.filesystem("memory").store.clear()


def test_e6_resumed_study_is_the_local_one(resumed, finished, tmp_path):
    url, result = resumed
    expected, local = finished
    assert_same(left_behind(download(url, tmp_path)), left_behind(expected))
    assert repr(result) == repr(local)
    assert not list(pathlib.Path().glob("memory:*"))


def test_e6_programs_read_and_write_remote_folders(resumed, finished, capsys, tmp_path):
    url, result = resumed
    folder, local = finished
    assert str(result.workdir) == url
    assert repr(load(url)) == repr(local)
    commands.status([url])
    assert repr(local) in capsys.readouterr().out
    commands.judge([url, "--closeness=1.3"])
    written = storage.to_path(url) / "verdict_closeness-1.3.json"
    assert storage.exists(written) and str(written) in capsys.readouterr().out
    again = load(url).judge(closeness=1.3)
    assert b"<html" in storage.read(again.report)
    commands.compare([url, str(folder), f"--plot={url}/both.png"])
    assert storage.read(storage.to_path(f"{url}/both.png")).startswith(b"\x89PNG")
    commands.plot([url, "--format=svg"])
    commands.plot([url, "--format=svg", f"--folder={tmp_path / 'figures'}"])
    assert b"<svg" in storage.read(storage.to_path(f"{url}/figures/{local.figures[0]}.svg"))
    assert len(list((tmp_path / "figures").iterdir())) == len(local.figures)


def test_e6_damaged_records_are_restored(resumed, finished):
    url, _ = resumed
    metrics = RunFolder(storage.to_path(url), "b128_ell2_seed0").metrics
    whole = storage.read(metrics)
    storage.write(metrics, whole[:-20])
    with pytest.warns(UserWarning, match="metrics.jsonl` is damaged"):
        result = run_study(study_config(), "sde_validity", url)
    assert storage.read(metrics) == whole and repr(result) == repr(finished[1])


def test_e6_workers_do_not_share_memory(url):
    with pytest.raises(ValueError, match="`num_workers`.*Received: num_workers=2"):
        build(study_config()).run(url, num_workers=2, show_progress=False)
    assert storage.sizes(storage.to_path(url)) == {}
