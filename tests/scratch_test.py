"""Tests of keras_svag/_scratch.py: temporary folders of killed processes."""

import os
import subprocess
import sys

import pytest

from keras_svag import _scratch
from tests.trainers.command import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no folder is locked")

KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("scratch", "keras_svag/_scratch.py")
scratch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(scratch)
folder = scratch.temporary_folder()
print(folder.__enter__(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_folder_of_a_killed_process_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(_scratch.tempfile, "tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED]
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    (left,) = tmp_path.iterdir()
    users = tmp_path / "keras_svag.tmp.of_a_user"
    users.mkdir()
    with _scratch.temporary_folder() as young:
        # It may have no lock yet.
        assert left.exists()
        for folder in (left, young, users):
            os.utime(folder, (0, 0))
        with _scratch.temporary_folder():
            pass
        assert not left.exists()
        assert os.path.exists(young) and users.exists()
    assert list(tmp_path.iterdir()) == [users]
