"""Tests of keras_svag/distribution/peers.py: processes that find and lose each other.

Threads stand for processes where none has to die.
"""

import concurrent.futures
import json
import socket
import subprocess
import sys
import time

import keras
import pytest

from keras_svag.distribution import peers
from keras_svag.distribution.placement import backend
from tests.distribution.multi_worker_test import cluster_variables, free_ports
from tests.trainers.command import ROOT

SETTINGS = {"num_processes": 2, "version": "1"}


@pytest.fixture
def addresses():
    return [f"localhost:{port}" for port in free_ports(2)]


def join(addresses, index, settings=SETTINGS, timeout=5.0):
    """Joins and leaves; returns the error, if there is one."""
    try:
        with peers.joined(addresses, index, settings, timeout):
            return None
    except ValueError as error:
        return str(error)


def join_both(*arguments):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        calls = [pool.submit(join, *each) for each in arguments]
    return [call.result() for call in calls]


def test_processes_join_and_leave(addresses):
    assert join_both((addresses, 0), (addresses, 1)) == [None, None]
    # The port is free again, for what TensorFlow or JAX do there.
    assert join_both((addresses, 0), (addresses, 1)) == [None, None]


def test_processes_join_over_ipv6(addresses):
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    addresses = [address.replace("localhost", "[::1]") for address in addresses]
    assert join_both((addresses, 0), (addresses, 1)) == [None, None]


@pytest.mark.parametrize("is_dual", [True, False])
def test_processes_join_over_ipv4(addresses, is_dual, monkeypatch):
    if not is_dual:
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    addresses = [address.replace("localhost", "127.0.0.1") for address in addresses]
    assert join_both((addresses, 0), (addresses, 1)) == [None, None]


def test_backend_listens_at_the_same_port(addresses):
    def join_and_listen():
        with peers.joined(addresses, 0, SETTINGS, 5.0):
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("", int(addresses[0].rpartition(":")[2])))
                listener.listen()

    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = pool.submit(join_and_listen), pool.submit(join, addresses, 1)
        assert first.result() is second.result() is None


def test_other_versions_are_refused_by_both(addresses):
    other = {"num_processes": 2, "version": "2"}
    for error in join_both((addresses, 0), (addresses, 1, other)):
        assert "version='1' in process 0 and '2' in process 1" in error


def test_other_addresses_are_refused_by_both(addresses):
    other = [addresses[0], f"localhost:{free_ports(1)[0]}"]
    for error in join_both((addresses, 0), (other, 1)):
        assert addresses[1] in error and other[1] in error


def test_two_processes_with_one_number(addresses):
    three = {**SETTINGS, "num_processes": 3}
    # A port of its own is what a process listens at; JAX has none for the others.
    cluster = addresses[:1]
    errors = join_both((cluster, 0, three), (cluster, 1, three), (cluster, 1, three))
    assert all("two processes have the number 1" in error for error in errors)


@pytest.mark.parametrize("index", [0, 1])
def test_missing_process(addresses, index, capsys):
    started = time.monotonic()
    error = join(addresses, index, timeout=0.5)
    assert time.monotonic() - started < 5
    assert "--join_timeout" in error
    assert ("processes [1] have not joined" if index == 0 else "process 0 does not answer") in error


@pytest.mark.parametrize("index", [0, 1])
def test_port_in_use(addresses, index):
    port = int(addresses[index].rpartition(":")[2])
    with socket.socket() as other:
        other.bind(("", port))
        other.listen()
        error = join(addresses, index)
    assert f"port {port}" in error and "Use another port" in error


def test_a_stranger_at_the_port_is_no_process(addresses):
    def knock():
        end = time.monotonic() + 5
        while time.monotonic() < end:
            try:
                with socket.create_connection(("localhost", port), 1) as connection:
                    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return
            except OSError:
                time.sleep(0.01)

    port = int(addresses[0].rpartition(":")[2])
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, stranger = pool.submit(join, addresses, 0), pool.submit(knock)
        stranger.result()
        assert join(addresses, 1) is None and first.result() is None


def tf_config(workers, kind="worker", index=0):
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}


def jax_variables(*values):
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    return {f"KERAS_DISTRIBUTION_{name}": value for name, value in zip(names, values)}


WRONG = {
    "tensorflow": [
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[]"},
        {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:2"]}}'},
        tf_config(["a:1", "b:2"], kind="x"),
        tf_config(["a:1", "b:2"], index=2),
        tf_config(["a:1", "b:2"], index=-1),
        tf_config(["a:1", "a:1"]),
        tf_config(["a", "b"]),
    ],
    "jax": [
        jax_variables("a:1"),
        jax_variables("a:1", "2", "2"),
        jax_variables("a", "2", "0"),
        jax_variables("a:1,b:1,c:1", "2", "0"),
        jax_variables("a:1", "two", "0"),
    ],
}


def set_variables(monkeypatch, variables):
    for name in ("TF_CONFIG", *jax_variables("", "", "")):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("variables", WRONG[keras.backend.backend()], ids=str)
def test_wrong_variables(monkeypatch, variables):
    set_variables(monkeypatch, variables)
    with pytest.raises(ValueError, match="docs/tpu.md"):
        backend.find_cluster()


@pytest.mark.parametrize("index", [0, 1])
def test_right_variables(monkeypatch, addresses, index):
    set_variables(monkeypatch, cluster_variables(addresses, index))
    found, own, count = backend.find_cluster()
    assert found[0] == addresses[0] and (own, count) == (index, 2)


def test_without_variables_the_backend_detects(monkeypatch):
    set_variables(monkeypatch, {})
    assert backend.find_cluster() is None


PROCESS = """
import sys, time
from keras_svag.distribution import peers

addresses, index = sys.argv[1:3], int(sys.argv[3])
with peers.joined(addresses, index, {"num_processes": 2}, 120.0):
    print("joined", flush=True)
    DO
"""


def start(addresses, index, do):
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS.replace("DO", do), *addresses, str(index)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("end", ["killed", "error", "farewell"])
def test_end_of_the_other_process(addresses, victim, end):
    does = {"killed": "time.sleep(100)", "error": "raise KeyError('x')", "farewell": "pass"}
    other_does = "time.sleep(3)" if end == "farewell" else "time.sleep(100)"
    processes = [
        start(addresses, index, does[end] if index == victim else other_does) for index in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "joined\n"
    if end == "killed":
        processes[victim].kill()
    started = time.monotonic()
    _, errors = processes[1 - victim].communicate(timeout=60)
    processes[victim].communicate()
    assert time.monotonic() - started < 10
    assert processes[1 - victim].returncode == (0 if end == "farewell" else 1)
    assert ("has ended" in errors) == (end != "farewell")
    assert ("KeyError: 'x'" in errors) == (end == "error")
