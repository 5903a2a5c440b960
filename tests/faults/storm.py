"""Signals of all kinds at random moments to all processes of small studies, on Linux.

    KERAS_BACKEND=jax python -m tests.faults.storm --minutes=10

Each study is started again until it finishes, and is then compared with one that nobody disturbed:
records, weights, results without times, verdict, figures and names of files. Exits with 1 if
anything differs or is left over, or if an exit code is not the promised one.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

from keras_svag import _scratch
from tests.faults.kill_test import left_behind
from tests.faults.processes import blocks, session_of, wait_until_none_is_left
from tests.trainers.command import ROOT

OPTIONS = [
    "--config=configs/digits.py:quick",
    "--config.checkpoint_steps=3",
    "--config.sde_validity.batch_sizes=(128,)",
    "--config.num_seeds=1",
    "--config.max_num_seeds=1",
    "--config.num_workers=2",
]
KINDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
# Workers and fork server more often, since their study goes on.
TARGETS = {"parent": 1, "worker": 2, "server": 2, "group": 1}
MOST_SIGNALS = 3  # between two starts, a burst being one
BURST = 10
PROMISED = {signal.SIGTERM: 75, signal.SIGHUP: 75, signal.SIGINT: 130, signal.SIGKILL: -9}
DEADLINE = 600.0  # of one process


def _is_probe(path):
    """Whether Python's `tempfile` wrote a file to see if it can, and was killed then."""
    is_named = path.is_file() and re.fullmatch("[a-z0-9_]{8}", path.name)
    return bool(is_named) and path.read_bytes() in (b"", b"blat")


class Storm:
    """What was sent to whom, and what came of it."""

    def __init__(self, folder, seed):
        self.folder, self._seed = folder, seed
        self.sent, self.codes = collections.Counter(), collections.Counter()
        self.finished, self.differences = 0, []
        self._lock = threading.Lock()
        self._numbers = iter(range(1_000_000))

    def start(self, workdir):
        """Starts a study in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "trainers.sde_validity", *OPTIONS, f"--workdir={workdir}"],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.folder / "tmp")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def make_reference(self):
        """Runs the study that the others are compared with."""
        started = time.monotonic()
        process = self.start(self.folder / "reference")
        _, errors = process.communicate(timeout=DEADLINE)
        if process.returncode:
            raise RuntimeError(errors)
        self._seconds = time.monotonic() - started
        self._expected = snapshot(self.folder / "reference")

    def disturb(self, lane, end):
        """Disturbs one study after the other until the end, and lets the last one finish."""
        rng = random.Random(f"{self._seed}/{lane}")
        while time.monotonic() < end:
            workdir = self.folder / f"study{next(self._numbers)}"
            # The last start is one of which nothing, or nothing fatal, is sent.
            while self._run(workdir, rng, time.monotonic() < end) != 0:
                pass
            self._compare(workdir)

    def _run(self, workdir, rng, is_disturbed):
        """Runs the command once; returns its exit code."""
        process = self.start(workdir)
        output = concurrent.futures.ThreadPoolExecutor(1).submit(process.communicate)
        sent = self._send(process, rng) if is_disturbed else []
        try:
            _, errors = output.result(timeout=DEADLINE)
        except concurrent.futures.TimeoutError:
            self._note(f"hangs: {workdir.name}, after {describe(sent)}")
            os.killpg(process.pid, signal.SIGKILL)
            return 0
        left = wait_until_none_is_left(process.pid)
        code = process.returncode
        with self._lock:
            self.sent.update(sent)
            self.codes[code] += 1
        told = f"{workdir.name}: {describe(sent)} -> {code}"
        if code not in allowed_codes(sent):
            self._note(f"exit code: {told}\n{errors[-3000:]}")
        if "Traceback" in errors:
            self._note(f"traceback: {told}\n{errors[-3000:]}")
        # A second Ctrl-C may come while the line about the first one is printed.
        most = 2 if sum(kind == "SIGINT" for kind, _ in sent) > 1 else 1
        if code in (75, 130) and not 1 <= len(lines := ending_lines(errors)) <= most:
            self._note(f"{len(lines)} lines at the end: {told}\n{errors[-3000:]}")
        if left:
            self._note(f"orphans {left}: {told}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        return code

    def _send(self, process, rng):
        """Sends some signals at random moments; returns their kinds and targets."""
        sent = []
        while not blocks(process.pid, signal.SIGTERM):  # the first lines of Python
            if process.poll() is not None:
                return sent
            time.sleep(0.005)
        moments = sorted(rng.uniform(0, self._seconds) for _ in range(rng.randint(1, MOST_SIGNALS)))
        started = time.monotonic()
        for moment in moments:
            kind, [target] = rng.choice(KINDS), rng.choices([*TARGETS], [*TARGETS.values()])
            count = BURST if kind != signal.SIGKILL and rng.random() < 0.2 else 1
            while time.monotonic() - started < moment:
                if process.poll() is not None:
                    return sent
                time.sleep(0.005)
            sent += self._send_to(process, kind, target, count, rng)
        return sent

    def _send_to(self, process, kind, target, count, rng):
        victim = process.pid
        if target in ("worker", "server"):
            while not (found := session_of(process.pid)[target]):  # not started yet
                if process.poll() is not None:
                    return []
                time.sleep(0.005)
            victim = rng.choice(found)
        sent = []
        # After its end its number may be given to another process.
        while len(sent) < count and process.poll() is None:
            try:
                (os.killpg if target == "group" else os.kill)(victim, kind)
            except ProcessLookupError:
                break
            sent.append((kind.name, target))
            time.sleep(0.01)
        return sent

    def _compare(self, workdir):
        try:
            got = snapshot(workdir)
        except Exception as error:  # a file is missing, or damaged
            got = {"error": f"{type(error).__name__}: {error}"}
        keys = self._expected.keys() | got.keys()
        names = [key for key in keys if self._expected.get(key) != got.get(key)]
        with self._lock:
            self.finished += 1
        if names:
            self._note(f"{workdir.name} differs: {sorted(map(str, names))} {got.get('error', '')}")

    def _note(self, difference):
        with self._lock:
            self.differences.append(difference)
            print(difference, flush=True)

    def check_left_over(self):
        """Notes temporary files that the next study would not remove either."""
        temporary = self.folder / "tmp"
        for path in temporary.iterdir():
            os.utime(path, (0, 0))  # as if it was old
        tempfile.tempdir = str(temporary)
        _scratch.remove_abandoned()
        if left := sorted(path.name for path in temporary.iterdir() if not _is_probe(path)):
            self._note(f"left in the temporary folder: {left}")

    def table(self):
        """What was sent, as text."""
        lines = ["signal  " + "".join(f"{target:>8}" for target in TARGETS)]
        for kind in KINDS:
            counts = [self.sent[kind.name, target] for target in TARGETS]
            lines.append(f"{kind.name:8}" + "".join(f"{count:8}" for count in counts))
        codes = ", ".join(f"{code}: {count}" for code, count in sorted(self.codes.items()))
        return "\n".join(
            [
                *lines,
                f"{self.sent.total()} signals, {self.codes.total()} processes (exit codes {codes})",
                f"{self.finished} finished studies, {len(self.differences)} differences",
            ]
        )


def snapshot(workdir):
    """What a study leaves, and the names of its files."""
    names = sorted(p.relative_to(workdir).as_posix() for p in workdir.rglob("*") if p.is_file())
    return {**left_behind(workdir), "names": names}


def allowed_codes(sent):
    """Exit codes that are promised after these signals."""
    kinds = [getattr(signal, kind) for kind, target in sent if target in ("parent", "group")]
    asked = [kind for kind in kinds if kind != signal.SIGKILL]
    codes = {0}  # it was faster
    codes |= {PROMISED[asked[0]]} if asked else set()
    codes |= {-9} if signal.SIGKILL in kinds else set()
    codes |= {130} if kinds.count(signal.SIGINT) > 1 else set()
    return codes


def ending_lines(errors):
    """The lines of ours on why a study ended."""
    lines = errors.replace("\r", "\n").splitlines()
    return [line for line in lines if "was preempted" in line or "Ended at once" in line]


def describe(sent):
    """The signals, as text."""
    counts = collections.Counter(sent)
    return (
        ", ".join(f"{kind} x{n} to {target}" for (kind, target), n in counts.items()) or "nothing"
    )


def main():
    """Runs the storm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lanes", type=int, default=2, help="studies at a time")
    arguments = parser.parse_args()
    # What is ignored stays ignored in a study: SIGINT of a background job, SIGHUP under `nohup`.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(prefix="storm") as folder:
        storm = Storm(pathlib.Path(folder), arguments.seed)
        (storm.folder / "tmp").mkdir()
        storm.make_reference()
        end = time.monotonic() + 60 * arguments.minutes
        with concurrent.futures.ThreadPoolExecutor(arguments.lanes) as lanes:
            done = [lanes.submit(storm.disturb, lane, end) for lane in range(arguments.lanes)]
        for lane in done:
            lane.result()
        storm.check_left_over()
    print(storm.table())
    sys.exit(1 if storm.differences else 0)


if __name__ == "__main__":
    main()
