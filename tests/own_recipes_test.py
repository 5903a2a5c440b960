"""Recipes as a user writes them, through the trainers: killed and resumed, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from examples import own_recipes
from tests.trainers.command import ROOT, load, trainer

DEADLINE = 300.0  # seconds, for a machine that is busy
ELLS = (1, 1.5, 2, 3)  # enough for a verdict, and few steps
SDE_VALIDITY = [
    "--config.max_num_seeds=2",
    f"--config.sde_validity.max_ell={ELLS[-1]}",
    f"--config.sde_validity.ells={','.join(map(str, ELLS))}",
]
# The base and kappa = 4, of which the steps are few.
LINEAR_SCALING = ["--config.linear_scaling.batch_sizes=32,128"]


def test_convnet():
    recipe = own_recipes.convnet()
    facts = recipe.facts
    assert facts.optimizer == "SVAG" and facts.rule == "linear" and facts.title == "SGD"
    assert not facts.independent_of_batch  # batch norm
    assert facts.learning_rate == 0.1 and facts.weight_decay == 0.01
    # The schedule's end is that of the run, at any batch size.
    for batch_size, rate in ((32, 0.1), (64, 0.2)):
        schedule, total = recipe.schedule_at(batch_size), facts.steps_at(batch_size)
        assert float(schedule(0)) == pytest.approx(rate)
        assert float(schedule(total)) == pytest.approx(0.1 * rate, rel=0.01)


def test_augmentation():
    # One bright pixel; draws for each direction, and none.
    x = np.zeros((5, 8, 8, 1), np.float32)
    x[:, 3, 4] = 1.0
    u = np.array(
        [(0.5, 0.5, 0), (0, 0.5, 0.5), (0.9, 0.5, 1), (0.5, 0, 0), (0.5, 0.9, 0)], "float32"
    )
    y = keras.ops.convert_to_numpy(own_recipes.shift_and_brighten(x, u))
    places = [(3, 4), (2, 4), (4, 4), (3, 3), (3, 5)]
    for image, (row, column), value in zip(y, places, (0.8, 1.0, 1.2, 0.8, 0.8)):
        assert image[row, column, 0] == pytest.approx(value) and np.count_nonzero(image) == 1


def test_transformer():
    recipe = own_recipes.transformer()
    facts = recipe.facts
    assert facts.optimizer == "SVAGAdam" and facts.rule == "square_root" and facts.title == "Adam"
    assert facts.independent_of_batch  # layer norm is of one example
    (x, y), network = recipe.train_data, recipe.network
    word = np.concatenate([x, y[:, -1:]], axis=1)
    np.testing.assert_array_equal(word, word[:, ::-1])
    # Causal: the last token changes only the last prediction.
    other = x[:4].copy()
    other[:, -1] = (other[:, -1] + 1) % own_recipes.VOCABULARY
    before, after = (keras.ops.convert_to_numpy(network(i)) for i in (x[:4], other))
    np.testing.assert_allclose(before[:, :-1], after[:, :-1], atol=1e-6)
    assert not np.allclose(before[:, -1], after[:, -1], atol=1e-3)


def arguments(workdir, recipe, options):
    return [
        f"--recipe=examples/own_recipes.py:{recipe}",
        f"--workdir={workdir}",
        "--config.num_workers=2",
        "--config.num_seeds=2",
        "--config.checkpoint_steps=20",
        *options,
    ]


def kill_midway(name, workdir, recipe, options):
    """Kills the trainer and its workers when a run is finished and another on its way."""
    command = [sys.executable, "-m", f"trainers.{name}", *arguments(workdir, recipe, options)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end = time.monotonic() + DEADLINE
    while not unfinished_after_a_finished(workdir):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def unfinished_after_a_finished(workdir):
    runs = list(workdir.glob("runs/*"))
    finished = [run for run in runs if (run / "result.json").exists()]
    begun = [run for run in runs if (run / "checkpoint" / "latest.npz").exists()]
    return finished and set(begun) - set(finished)


def records_of(workdir):
    return {p.parent.name: p.read_bytes() for p in sorted(workdir.glob("runs/*/metrics.jsonl"))}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
@pytest.mark.parametrize(
    ("name", "recipe", "options", "num_runs"),
    [
        ("sde_validity", "convnet", SDE_VALIDITY, 2 * len(ELLS)),
        ("sde_validity", "transformer", SDE_VALIDITY, 2 * len(ELLS)),
        ("linear_scaling", "convnet", LINEAR_SCALING, 4),
        ("linear_scaling", "transformer", LINEAR_SCALING, 4),
    ],
)
def test_killed_and_resumed(name, recipe, options, num_runs, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = trainer(*arguments(whole, recipe, options), name=name)
    assert done.returncode == 0, done.stderr
    kill_midway(name, killed, recipe, options)
    kept = {p: p.stat().st_mtime_ns for p in killed.glob("runs/*/result.json")}
    assert kept and not (killed / "verdict.json").exists()
    done = trainer(*arguments(killed, recipe, options), name=name)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(records_of(whole)) == num_runs
    assert records_of(killed) == records_of(whole)
    assert load(killed / "verdict.json") == load(whole / "verdict.json")
    title, rule = {"convnet": ("SGD", "linear"), "transformer": ("Adam", "square-root")}[recipe]
    headings = {
        "sde_validity": f"Is {title} well modeled by its SDE?",
        "linear_scaling": f"How far does the {rule} scaling rule hold?",
    }
    assert headings[name] in (killed / "report.html").read_text("utf-8")
    # It learned: a tenth of the digits, an eighth of the letters would be guessed.
    lines = [content.splitlines()[-1] for content in records_of(killed).values()]
    assert max(json.loads(line)["test_accuracy"] for line in lines) > 0.5
