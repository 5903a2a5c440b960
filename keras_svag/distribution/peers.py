"""Connections between the processes of a `multi_worker` run, by which each sees another one end.

The first process listens at the first address of the cluster before its backend does. The others
connect and compare their settings with its. The connections then stay open, unused, until the end:
when one breaks, its process is gone. Collective operations alone would wait for it, for minutes.
"""

import contextlib
import importlib.metadata
import json
import os
import selectors
import socket
import sys
import threading
import time

import keras

from keras_svag.version import __version__

ACCEPT_SECONDS, CONNECT_SECONDS = 0.2, 2.0
WAITING_AFTER = 5.0  # seconds without a word
# A machine that vanished from the network is noticed after 10 + 3 x 5 seconds.
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
MAX_MESSAGE = 2**16


class ProcessLostError(RuntimeError):
    """Raised when another process of a `multi_worker` run has ended or cannot be reached."""

    def __init__(self):
        super().__init__(
            "Another process of this run has ended or cannot be reached. Check its output, then "
            "restart all processes with the same command: the run resumes from its last checkpoint."
        )


@contextlib.contextmanager
def joined(addresses, index, settings, timeout):
    """Context in which this process ends as soon as another one of the cluster does."""
    # `addresses`: `host:port` of the first process and, if they listen too, of the others.
    # `settings`: must be the same in all processes; their number is among them.
    host, _, port = addresses[0].rpartition(":")
    # That of the first process works, whatever name it has here and there.
    settings = {**settings, "addresses": addresses[1:]}
    if 0 < index < len(addresses):
        _check_port(addresses[index])
    join = _accept if index == 0 else _connect
    connections = join((host.strip("[]"), int(port)), index, settings, time.monotonic() + timeout)
    watcher = _Watcher(connections, index)
    watcher.start()
    try:
        yield
    except Exception as error:
        watcher.leave(f"{type(error).__name__}: {error}")
        raise
    except BaseException:  # preempted, as all others are
        watcher.leave()
        raise
    else:
        watcher.leave()


def describe_software():
    """Returns the versions that all processes must share."""
    versions = {"keras": keras.__version__, "backend": keras.backend.backend()}
    for package in ("tensorflow", "tensorflow-cpu", "jax", "jaxlib"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {"keras_svag": __version__, **versions}


class _Watcher(threading.Thread):
    """Ends this process when a connection breaks."""

    def __init__(self, connections, index):
        super().__init__(daemon=True)
        self._connections, self._index = connections, index
        self._has_left = False

    def run(self):
        selector = selectors.DefaultSelector()
        for number, connection in self._connections.items():
            selector.register(connection, selectors.EVENT_READ, number)
        while selector.get_map():
            for key, _ in selector.select():
                selector.unregister(key.fileobj)
                reason = _read(key.fileobj)
                key.fileobj.close()
                if reason != "":  # the empty one is a farewell
                    self._end(key.data, reason)

    def _end(self, number, reason):
        if self._has_left:
            return
        told = f"Process {number} of this run has ended." if reason is None else reason
        self._tell(told)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            print(f"{told}\n{ProcessLostError()}", file=sys.stderr, flush=True)
        # The main thread waits for the other process, maybe for ever. Files are written atomically.
        os._exit(1)

    def leave(self, error=None):
        """Tells the others that this process ends as planned, or by an error."""
        self._has_left = True
        self._tell("" if error is None else f"Process {self._index}: {error}")

    def _tell(self, message):
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                _send(connection, message)


def _accept(address, index, settings, deadline):
    """The connections of the first process, by the number of the other one."""
    connections, missing = [], set(range(1, settings["num_processes"]))
    numbers = []
    try:
        with _listen(address) as listener:
            listener.settimeout(ACCEPT_SECONDS)
            rounds = _rounds(deadline, lambda: f"processes {sorted(missing)} have not joined")
            while missing:
                next(rounds)
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    if (hello := _receive_hello(connection)) is None:  # not one of us
                        connection.close()
                        continue
                    connections.append(connection)
                    numbers.append(hello["index"])
                    _check_same(settings, hello, missing)
                    missing.remove(hello["index"])
    except ValueError as error:
        for connection in connections:
            with contextlib.suppress(OSError):
                _send(connection, str(error))
        raise
    for connection in connections:
        _send(connection, "")
    return dict(zip(numbers, connections, strict=True))


def _connect(address, index, settings, deadline):
    """The connection to the first process."""
    problems = ["no time"]
    for _ in _rounds(deadline, lambda: f"process 0 does not answer ({problems[-1]})"):
        try:
            connection = socket.create_connection(address, timeout=CONNECT_SECONDS)
        except OSError as error:  # also where its name is not known yet, as in Kubernetes
            problems.append(f"{address[0]}:{address[1]}: {error.strerror or error}")
            continue
        _prepare(connection)
        try:
            _send(connection, {"index": index, "settings": settings})
            # The first process answers once all have joined.
            connection.settimeout(max(1.0, deadline - time.monotonic() + 5))
            answer = _read(connection)
        except OSError:
            answer = None
        if answer == "":
            connection.settimeout(None)
            return {0: connection}
        connection.close()
        if isinstance(answer, str):
            raise ValueError(answer)
    raise AssertionError  # pragma: no cover


def _rounds(deadline, describe_problem):
    """Yields until the deadline, and then raises; says after a while what it waits for."""
    started, has_told = time.monotonic(), False
    while True:
        yield
        now = time.monotonic()
        if now > deadline:
            raise _wrong_cluster(f"{describe_problem()} after {deadline - started:.0f} seconds")
        if now - started > WAITING_AFTER and not has_told:
            has_told = True
            print(f"Waiting: {describe_problem()}.", file=sys.stderr, flush=True)
        time.sleep(0.05)


def _wrong_cluster(problem):
    return ValueError(
        "`strategy` 'multi_worker' needs all processes of the cluster, started at about the same "
        f"time with the same addresses. Received: strategy='multi_worker', but {problem}. Check "
        "the addresses and the output of the other processes, or raise --join_timeout."
    )


def _check_same(settings, hello, missing):
    if hello["index"] not in missing:
        raise _wrong_cluster(f"two processes have the number {hello['index']}")
    differences = [
        f"{name}={settings[name]!r} in process 0 and {hello['settings'].get(name)!r} in process "
        f"{hello['index']}"
        for name in settings
        if settings[name] != hello["settings"].get(name)
    ]
    if differences:
        raise ValueError(
            "`strategy` 'multi_worker' needs the same cluster and versions in all processes. "
            f"Received: {'; '.join(differences)}. Start all processes with the same settings."
        )


def _check_port(address):
    _listen(("", int(address.rpartition(":")[2]))).close()


def _listen(address):
    is_dual = socket.has_dualstack_ipv6()
    listener = socket.socket(socket.AF_INET6 if is_dual else socket.AF_INET)
    if is_dual:  # for both kinds of addresses
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # The backend listens at the same port later, while these connections are open.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", address[1]))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ValueError(
            "The port of a process of strategy 'multi_worker' must be free. Received: port "
            f"{address[1]}, which cannot be opened: {error.strerror}. Use another port, end the "
            "program that uses it, or give each process a number of its own."
        ) from error
    return listener


def _prepare(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _receive_hello(connection):
    _prepare(connection)
    connection.settimeout(5.0)
    try:
        hello = _read(connection)
    except OSError:
        return None
    connection.settimeout(None)
    is_hello = isinstance(hello, dict) and isinstance(hello.get("index"), int)
    return hello if is_hello and isinstance(hello.get("settings"), dict) else None


def _send(connection, message):
    connection.sendall(json.dumps(message).encode() + b"\n")


def _read(connection):
    """Returns the next message, or `None` at the end of the connection."""
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < MAX_MESSAGE:
            part = connection.recv(1)
            if not part:
                return None
            data += part
        return json.loads(data)
    except TimeoutError:
        raise
    except (OSError, ValueError):
        return None
