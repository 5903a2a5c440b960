"""Two real processes on this machine train one network together."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_svag.engine.files import checkpoints, lock, records
from keras_svag.engine.processes import preemption
from keras_svag.engine.state import RunFolder
from tests.trainers.command import ROOT, trainer

pytestmark = pytest.mark.slow

RUN = "b16_ell2_seed0"
OPTIONS = [
    "--config=configs/digits.py:quick",
    "--config.base_batch_size=16",
    "--config.train.batch_size=16",
    "--config.train.ell=2",
    "--config.evaluation_size=301",
]
# So many steps that one process can be killed in the middle, and checkpoints to go on from.
LONG = [*OPTIONS, "--config.epochs=20", "--config.num_records=20", "--config.num_checkpoints=20"]
MOST_SECONDS = 400
# Longest time after which a process that is left alone must have ended.
MOST_SECONDS_ALONE = 150
MOST_SECONDS_TO_NOTICE = 30


def free_ports(count):
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in sockets]


def cluster_variables(addresses, index):
    """What tells process `index` of the others."""
    if keras.backend.backend() == "tensorflow":
        task = {"type": "worker", "index": index}
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": addresses[0],
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(len(addresses)),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
    }


@contextlib.contextmanager
def two_processes(folder, *arguments, workdirs, second=(), programs=((), ()), variables=({}, {})):
    """Context with both processes, `second` for one of them; they do not outlive it."""
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    folder.mkdir(exist_ok=True)
    processes = []
    for index in range(2):
        environment = {"KERAS_BACKEND": keras.backend.backend(), "CUDA_VISIBLE_DEVICES": ""}
        environment |= cluster_variables(addresses, index) | {"PROCESS_INDEX": str(index)}
        environment |= variables[index]
        log = open(folder / f"process{index}.log", "w")
        program = programs[index] or ["trainers.train"]
        command = [sys.executable, "-m", *program, "--strategy=multi_worker"]
        processes.append(
            subprocess.Popen(
                [*command, *arguments, *(second * index), f"--workdir={workdirs[index]}"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        )
        log.close()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def said(folder, index):
    """What a process printed."""
    return (folder / f"process{index}.log").read_text()


def train_together(folder, workdir, options):
    """Both processes to their end."""
    with two_processes(folder, *options, workdirs=[workdir] * 2) as processes:
        for index, process in enumerate(processes):
            assert process.wait(MOST_SECONDS) == 0, said(folder, index)


def rows_and_state(workdir):
    """The records of the run and the arrays of its last checkpoint."""
    folder = RunFolder(workdir, RUN)
    state, _ = checkpoints.load(folder.checkpoints, ("model", "optimizer"))
    return records.read_jsonl(folder.metrics), state


def test_two_processes_match_one(tmp_path):
    train_together(tmp_path / "logs", tmp_path / "two", OPTIONS)
    done = trainer(*OPTIONS, f"--workdir={tmp_path / 'one'}", name="train")
    assert done.returncode == 0, done.stderr
    rows, state = rows_and_state(tmp_path / "two")
    expected_rows, expected = rows_and_state(tmp_path / "one")
    assert len(rows) == len(expected_rows) == 10
    # Sums in another order, some 1e-7 a step; N and G of TensorFlow come from the local halves.
    local = ("gradient_noise", "gradient_signal", "noise_to_signal")
    exact = keras.backend.backend() == "jax"
    for row, expected_row in zip(rows, expected_rows):
        assert row.keys() == expected_row.keys()
        for name in expected_row:
            if exact or name not in local:
                assert row[name] == pytest.approx(expected_row[name], rel=1e-4, abs=1e-4), name
            else:
                assert 0.2 < row[name] / expected_row[name] < 5, name
    for a, b in zip(state["model"], expected["model"], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    # The first process wrote, and said, all there is; the other one nothing.
    assert "test_accuracy" in said(tmp_path / "logs", 0)
    assert "test_accuracy" not in said(tmp_path / "logs", 1)
    names = {p.name for p in (tmp_path / "two").rglob("*") if p.is_file()}
    assert names == {p.name for p in (tmp_path / "one").rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Records and last state of the long run of two processes that nobody interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    train_together(folder / "logs", folder / "workdir", LONG)
    return rows_and_state(folder / "workdir")


def test_run_of_another_job_is_waited_for_by_both(tmp_path):
    workdir, logs = tmp_path / "locked", tmp_path / "logs"
    folder = RunFolder(workdir, RUN)
    folder.path.mkdir(parents=True)
    with two_processes(logs, *OPTIONS, workdirs=[workdir] * 2) as processes:
        with lock.acquire(folder.lock):
            deadline = time.monotonic() + MOST_SECONDS
            while not (workdir / "environment.json").exists():
                assert time.monotonic() < deadline, said(logs, 0) + said(logs, 1)
                time.sleep(0.1)
            time.sleep(10)  # so long that the second process would train alone
            assert [process.poll() for process in processes] == [None] * 2, said(logs, 0)
        for index, process in enumerate(processes):
            assert process.wait(MOST_SECONDS) == 0, said(logs, index)
    assert folder.result.exists()


def wait_for_checkpoint(workdir, processes, logs):
    checkpoint = RunFolder(workdir, RUN).checkpoint
    deadline = time.monotonic() + MOST_SECONDS
    while not checkpoint.exists():
        alive = all(process.poll() is None for process in processes)
        assert time.monotonic() < deadline and alive, said(logs, 0) + said(logs, 1)
        time.sleep(0.01)


@pytest.mark.parametrize("victim", [1, 0])
def test_killed_process_ends_the_other_and_both_resume_exactly(tmp_path, whole, victim):
    workdir, logs = tmp_path / "killed", tmp_path / "logs"
    with two_processes(logs, *LONG, workdirs=[workdir] * 2) as processes:
        wait_for_checkpoint(workdir, processes, logs)
        processes[victim].send_signal(signal.SIGKILL)
        other = processes[1 - victim]
        assert other.wait(MOST_SECONDS_ALONE) != 0
    assert not RunFolder(workdir, RUN).result.exists()
    if victim == 1 or keras.backend.backend() == "tensorflow":
        assert "Another process of this run has ended" in said(logs, 1 - victim)
    train_together(tmp_path / "logs_after", workdir, LONG)
    rows, state = rows_and_state(workdir)
    expected_rows, expected = whole
    assert rows == expected_rows
    assert_same_state(state, expected)


@pytest.mark.parametrize("victim", [0, 1])
def test_ten_moments(tmp_path, whole, victim):
    # In each case the other one ends by itself, and soon; all go on in one folder.
    workdir, rng, reached = tmp_path / "killed", random.Random(victim), 0
    for index in range(10):
        logs = tmp_path / f"logs{index}"
        # Only the first process writes checkpoints.
        is_in_write = victim == 0 and index % 3 == 2
        program = ["tests.distribution.killed_trainer", str(rng.randint(1, 4))]
        programs = [program if is_in_write else (), ()]
        options = [*LONG, "--join_timeout=20", "--config.checkpoint_steps=30"]
        arguments = {"workdirs": [workdir] * 2, "programs": programs}
        with two_processes(logs, *options, **arguments) as processes:
            if not is_in_write:
                wait_for_moment(rng, processes, logs)
                processes[victim].kill()
            if processes[victim].wait(MOST_SECONDS) == 0:
                assert processes[1 - victim].wait(MOST_SECONDS) == 0
                break
            started = time.monotonic()
            code = processes[1 - victim].wait(MOST_SECONDS_ALONE)
            seconds = time.monotonic() - started
        output = said(logs, 1 - victim)
        # One that still imports must do that first, and then waits for --join_timeout.
        assert seconds < MOST_SECONDS_TO_NOTICE or "has ended" not in output, output
        assert code == 1 and "Traceback" not in output, output
        words = ("has ended", "have not joined", "does not answer")
        assert any(word in output for word in words), output
        reached += RunFolder(workdir, RUN).checkpoint.exists()
    assert reached > 0
    train_together(tmp_path / "logs_after", workdir, [*LONG, "--config.checkpoint_steps=30"])
    assert_same_state(rows_and_state(workdir)[1], whole[1])


def wait_for_moment(rng, processes, logs):
    """Waits until one of the moments of a run: start, join, training."""
    end = time.monotonic() + MOST_SECONDS
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, 10))
        return
    # The end of the bar is where it trains.
    while "To do" not in said(logs, 0) and time.monotonic() < end:
        assert all(process.poll() is None for process in processes), said(logs, 0) + said(logs, 1)
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 10))


def assert_same_state(state, expected):
    for group in expected:
        for a, b in zip(state[group], expected[group], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("asked", [(0, 1), (1,)], ids=["both", "second"])
def test_sigterm_ends_both_with_a_checkpoint(tmp_path, whole, asked):
    # Schedulers tell all processes, one after the other; one of them is enough.
    workdir, logs = tmp_path / "preempted", tmp_path / "logs"
    # Pieces of a third of a record, so that most of them end between two records.
    options = [*LONG, "--config.checkpoint_steps=30"]
    with two_processes(logs, *options, workdirs=[workdir] * 2) as processes:
        wait_for_checkpoint(workdir, processes, logs)
        for index in asked:
            processes[index].send_signal(signal.SIGTERM)
        for index, process in enumerate(processes):
            assert process.wait(MOST_SECONDS_ALONE) == preemption.EXIT_CODE, said(logs, index)
    for index in range(2):
        assert "(SIGTERM)" in said(logs, index)
        assert "Traceback" not in said(logs, index)
    assert not RunFolder(workdir, RUN).result.exists()
    train_together(tmp_path / "logs_after", workdir, options)
    rows, state = rows_and_state(workdir)
    expected_rows, expected = whole
    assert_same_state(state, expected)
    # On TensorFlow a checkpoint between two records holds the sums of metrics over processes, not
    # those of each: their last digits may differ in the record that it is in.
    for row, expected_row in zip(rows, expected_rows, strict=True):
        # N/G is `None` where G is not positive.
        numbers = [{k: v for k, v in r.items() if v is not None} for r in (row, expected_row)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-5, abs=1e-6)


def test_processes_that_see_different_folders_are_refused(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "left.txt").write_text("of before")
    (tmp_path / "1").mkdir()
    workdirs = [tmp_path / "0", tmp_path / "1"]
    with two_processes(tmp_path / "logs", *OPTIONS, workdirs=workdirs) as processes:
        for index, process in enumerate(processes):
            assert process.wait(MOST_SECONDS) == 1, said(tmp_path / "logs", index)
    for index in range(2):
        output = said(tmp_path / "logs", index)
        assert "`workdir` must have the same files" in output
        assert "Traceback" not in output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--config.learning_rate=0.3"], ["learning_rate=0.2 in one process and 0.3 in another"]),
        (["--config.epochs=3"], ["epochs=2.0 in one process and 3.0 in another"]),
        (["--config.model.width=32"], ["model.width=64 in one process and 32 in another"]),
        (["--config.seed=5"], ["seed=0 in one process and 5 in another"]),
    ],
    ids=lambda value: value[0].split("=")[0] if value[0].startswith("--") else "",
)
def test_e1_processes_with_other_settings_are_refused(tmp_path, change, words):
    workdir, logs = tmp_path / "workdir", tmp_path / "logs"
    with two_processes(logs, *OPTIONS, workdirs=[workdir] * 2, second=change) as processes:
        assert_both_refused(processes, logs, words)
    assert not workdir.exists()


def assert_both_refused(processes, logs, words):
    for index, process in enumerate(processes):
        assert process.wait(MOST_SECONDS_ALONE) == 1, said(logs, index)
    for index in range(2):
        output = said(logs, index)
        assert "'multi_worker' must have the same" in output and "Traceback" not in output, output
        for word in words:
            assert word in output, output


# The same file on both machines, where something else differs.
RECIPE = """
import importlib.metadata
import os

import keras
import numpy as np

from keras_svag import Recipe

INDEX = int(os.environ["PROCESS_INDEX"])
version = importlib.metadata.version
X = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
DECAY, UNITS = 0.1, 1
{change}

def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(UNITS), keras.layers.Dense(1)])

def make():
    optimizer = keras.optimizers.SGD(0.1, weight_decay=DECAY)
    return Recipe(build, (X, X[:, :1]), optimizer, "mse", 8, epochs=2)
"""
CHANGES = {
    "X = X + INDEX": ["data='"],
    "DECAY = 0.1 + INDEX": ["optimizer.weight_decay=0.1 in one process and 1.1 in another"],
    "UNITS = 1 + INDEX": ["model='build "],
    "keras.config.set_dtype_policy(['float32', 'mixed_bfloat16'][INDEX])": [
        "dtype_policy='float32' in one process and 'mixed_bfloat16' in another"
    ],
    "importlib.metadata.version = lambda name: 'other' if INDEX else version(name)": [
        "versions.numpy='",
        "and 'other' in another",
    ],
}


def test_e1_processes_with_another_file_of_the_recipe_are_refused(tmp_path):
    # On TensorFlow a variable gets the value of the first process, a learning rate for instance.
    for name, rate in (("first", 0.1), ("second", 0.2)):
        text = RECIPE.format(change="").replace("SGD(0.1", f"SGD({rate}")
        (tmp_path / f"{name}.py").write_text(text)
    arguments, second = ([f"--recipe={tmp_path / name}.py:make"] for name in ("first", "second"))
    workdir, logs = tmp_path / "workdir", tmp_path / "logs"
    with two_processes(logs, *arguments, workdirs=[workdir] * 2, second=second) as processes:
        assert_both_refused(processes, logs, ["recipe='make of "])


@pytest.mark.parametrize("change", CHANGES)
def test_e1_processes_with_another_recipe_are_refused(tmp_path, change):
    recipe = tmp_path / "mine.py"
    recipe.write_text(RECIPE.format(change=change))
    arguments = [f"--recipe={recipe}:make"]
    workdir, logs = tmp_path / "workdir", tmp_path / "logs"
    with two_processes(logs, *arguments, workdirs=[workdir] * 2) as processes:
        assert_both_refused(processes, logs, CHANGES[change])
    assert not workdir.exists()


def test_port_in_use(tmp_path):
    # The other process does not wait longer than it is told to.
    port = free_ports(1)[0]
    if keras.backend.backend() == "tensorflow":
        variables = [cluster_variables([f"localhost:{port}", "localhost:1"], i) for i in range(2)]
    else:
        variables = [cluster_variables([f"localhost:{port}"] * 2, i) for i in range(2)]
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        arguments = {"workdirs": [tmp_path / "x"] * 2, "variables": variables}
        options = [*OPTIONS, "--join_timeout=20"]
        with two_processes(tmp_path / "logs", *options, **arguments) as processes:
            for index, process in enumerate(processes):
                assert process.wait(MOST_SECONDS_ALONE) == 1, said(tmp_path / "logs", index)
    outputs = [said(tmp_path / "logs", index) for index in range(2)]
    assert f"port {port}" in outputs[0] and not (tmp_path / "x").exists()
    assert not any("Traceback" in output for output in outputs)
