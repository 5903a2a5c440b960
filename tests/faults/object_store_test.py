"""Studies in S3, over HTTP: a server on this machine, and processes that are killed.

Needs s3fs and moto's server; tests/studies/remote_test.py has what can be seen in memory.
"""

import os
import signal
import subprocess
import sys
import time
import urllib.request

import keras
import pytest

from keras_svag.engine.files import storage
from tests.distribution.multi_worker_test import free_ports
from tests.faults.kill_test import (
    assert_same,
    finish,
    left_behind,
    run_until,
    start,
)
from tests.studies.remote_test import download
from tests.trainers import command
from tests.trainers.command import assert_refused

pytest.importorskip("s3fs", reason="S3 needs s3fs: pip install s3fs")
pytest.importorskip("moto.server", reason="a server of S3 is needed: pip install 'moto[server]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX"),
]

QUICK = "--config=configs/digits.py:quick"
# Short runs with many checkpoints, since each is several requests.
SHORT = {"one_thread": True, "checkpoint_steps": 4}


@pytest.fixture(scope="module")
def bucket():
    """A bucket, whose server this process and those that it starts find by the environment."""
    [port] = free_ports(1)
    address = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        try:
            wait_until_up(address)
            put = urllib.request.Request(f"{address}/studies", method="PUT")
            urllib.request.urlopen(put).close()
            yield "s3://studies"
        finally:
            server.kill()
            server.wait()


def wait_until_up(address):
    for _ in range(600):
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no server at {address}")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What the study leaves in a local folder."""
    folder = tmp_path_factory.mktemp("local")
    finish(folder, SHORT)
    return left_behind(folder)


def claims(url):
    names = storage.sizes(storage.to_path(url))
    return [name for name in names if storage.TEMPORARY in name]


def assert_ends_as_local(url, expected, folder):
    assert claims(url) == []
    assert_same(left_behind(download(url, folder)), expected)


def test_e6_killed_with_two_workers(bucket, expected, tmp_path):
    url, changes = f"{bucket}/killed", {**SHORT, "num_workers": 2}
    for seconds in (0.2, 0.7, 0.4):
        assert not run_until(url, changes, "time", seconds)
    finish(url, changes)
    assert_ends_as_local(url, expected, tmp_path)


def test_e6_two_processes_share_the_runs_and_one_is_killed(bucket, expected, tmp_path):
    url = f"{bucket}/shared"
    notes = [tmp_path / name for name in ("first", "second")]
    first, second = (start(url, SHORT, "note", note) for note in notes)
    wait_until(lambda: notes[0].exists() and notes[1].exists())
    first.kill()
    first.communicate()
    _, errors = second.communicate()
    assert second.returncode == 0 and "Traceback" not in errors, errors
    trained = [note.read_text().split() for note in notes]
    assert not set(trained[0]) & set(trained[1])
    # One that was killed while it asked for a run leaves its claim, which the next call removes.
    assert [name for name in claims(url) if f".{first.pid}." not in name] == []
    finish(url, SHORT)
    assert_ends_as_local(url, expected, tmp_path / "copy")


def wait_until(condition):
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_e6_sigterm(bucket, tmp_path):
    arguments = [sys.executable, "-m", "trainers.train", QUICK, f"--workdir={bucket}/terminated"]
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    arguments += ["--config.epochs=1000", "--config.num_checkpoints=50"]
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    folder = storage.to_path(f"{bucket}/terminated")
    wait_until(lambda: storage.find(folder, "runs/*/checkpoint/previous.npz"))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 75 and "Traceback" not in errors, errors
    assert claims(f"{bucket}/terminated") == []


def test_e6_what_is_missing_is_said(bucket, tmp_path):
    def trainer(*arguments, **options):
        path = os.pathsep.join(sys.path)  # wherever s3fs is installed
        return command.trainer(*arguments, **options, PYTHONPATH=path)

    assert_refused(trainer(QUICK, "--workdir=ftp://host/x"), "`workdir`", "gs://", "s3://")
    done = trainer(QUICK, "--workdir=s3://no-such-bucket/x", name="train")
    assert_refused(done, "s3://no-such-bucket/x", "no bucket 'no-such-bucket'")
    without = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)}
    done = trainer(QUICK, f"--workdir={bucket}/x", name="train", **without)
    assert_refused(done, f"{bucket}/x", "could not be read", "credentials")
    dead = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}"}
    done = trainer(QUICK, f"--workdir={bucket}/x", name="train", **dead)
    assert_refused(done, f"{bucket}/x", "could not be read", "onnect", "network")
