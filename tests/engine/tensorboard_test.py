"""Tests of keras_svag/engine/files/tensorboard.py, with a real TensorBoard server on loopback."""

import json
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import numpy as np
import pytest

from keras_svag.engine.files import records

SECONDS = 120  # that the server may live
RUNS = {f"runs/b128_ell{ell}_seed{seed}/tensorboard" for ell in (1, 2, 4, 8) for seed in (0, 1)}
FIGURES = {
    "Where amplification leads": "convergence",
    "Curves at batch size 128": "curves_b128",
}


class Server:
    """Asks a TensorBoard server.

    Args:
        address: such as `http://localhost:6006/`.
    """

    def __init__(self, address):
        self._address = address

    def read(self, path, body=None, **query):
        """Bytes of an answer; a `body` is sent as JSON."""
        url = f"{self._address}data/{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.read()

    def json(self, path, body=None, **query):
        """An answer in JSON."""
        return json.loads(self.read(path, body, **query))


def has_read(server):
    """Returns True if all runs and the figures are there."""
    runs = server.json("plugin/scalars/tags")
    return set(runs) == RUNS and "tensorboard" in server.json("plugin/images/tags")


@pytest.fixture(scope="module")
def server(finished):
    """A server over the finished study that has read its files."""
    # The loader in Python, which every platform has, reads once.
    options = ["--port=0", "--load_fast=false", "--reload_interval=0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", f"--logdir={finished[0]}", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    try:
        said = ""
        for line in process.stderr:  # ends when the process does
            said += line
            address = re.search(r"http://\S+", line)
            if address:
                break
        else:
            raise AssertionError(f"TensorBoard did not start: {said}")
        server = Server(address[0])
        # It answers while it still reads.
        while process.poll() is None and not has_read(server):
            time.sleep(0.2)
        time.sleep(0.5)  # for the rest of the last file
        yield server
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        process.stderr.close()


def test_scalars_at_effective_steps(server, finished):
    workdir, _ = finished
    run = "b128_ell2_seed1"
    rows = records.read_jsonl(workdir / "runs" / run / "metrics.jsonl")
    for tag in ("gradient_noise", "gradient_signal", "weight_norm", "train_loss", "learning_rate"):
        points = server.json("plugin/scalars/scalars", run=f"runs/{run}/tensorboard", tag=tag)
        assert [step for _, step, _ in points] == [row["effective_step"] for row in rows]
        values = [value for _, _, value in points]
        np.testing.assert_allclose(values, [row[tag] for row in rows], rtol=1e-6)


def test_every_run_is_there(server):
    assert set(server.json("plugin/scalars/tags")) == RUNS


def test_hyperparameters_group_the_seeds(server, recipe):
    experiment = server.json("plugin/hparams/experiment", {"experimentName": ""})
    names = {info["name"] for info in experiment["hparamInfos"]}
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
        "colParams": [{"hparam": name} for name in sorted(names)],
        "startIndex": 0,
        "sliceSize": 100,
    }
    groups = server.json("plugin/hparams/session_groups", request)["sessionGroups"]
    found = {group["hparams"]["ell"]: group for group in groups}
    assert set(found) == {1, 2, 4, 8} and len(groups) == 4
    for ell, group in found.items():
        assert group["hparams"] == {
            "batch_size": 128,
            "effective_steps": 22,
            "ell": ell,
            "learning_rate": pytest.approx(3.2),
            "method": "svag",
            "optimizer": "SVAG",
            "weight_decay": recipe.facts.weight_decay,
        }
        assert {session["name"] for session in group["sessions"]} == {
            f"runs/b128_ell{ell:g}_seed{seed}/tensorboard" for seed in (0, 1)
        }


def test_figures_are_images(server, finished):
    workdir, verdict = finished
    tags = server.json("plugin/images/tags")["tensorboard"]
    assert len(tags) == len(FIGURES)
    for title, file in FIGURES.items():
        (tag,) = (tag for tag in tags if tag.startswith(title))
        (image,) = server.json("plugin/images/images", run="tensorboard", tag=tag, sample=0)
        data = (workdir / "figures" / f"{file}.png").read_bytes()
        query = dict(urllib.parse.parse_qsl(image["query"]))
        assert server.read("plugin/images/individualImage", **query) == data
