"""Tests of trainers/startup.py: signals from the first line on (E7, E8), closed streams (E12)."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.faults.processes import blocks
from tests.trainers.command import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

CODES = {signal.SIGTERM: 75, signal.SIGHUP: 75, signal.SIGINT: 130}
# Stands for a trainer: `FORWARD` is where the study begins.
PROGRAM = """
import sys, time
from trainers import startup

startup.begin()
FORWARD
print("ready", flush=True)
CALL
"""
STUDY = """
received = []
startup.forward_signals(received.append)
"""
WAIT = """
while not received:
    time.sleep(0.01)
time.sleep(0.5)
print(len(received))
sys.exit(75)
"""


def start(code, **options):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **pipes)


def program(forward="", call="time.sleep(60)"):
    return PROGRAM.replace("FORWARD", forward).replace("CALL", call)


@pytest.mark.parametrize("signum", CODES, ids=lambda signum: signum.name)
@pytest.mark.parametrize("name", ["sde_validity", "train"])
def test_e7_signal_in_the_first_moment(name, signum):
    # Of a real trainer, which has not imported anything by then.
    process = subprocess.Popen(
        [sys.executable, "-m", f"trainers.{name}"], cwd=ROOT, text=True, stderr=subprocess.PIPE
    )
    while not blocks(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == CODES[signum]
    assert len(errors.splitlines()) == 1 and signum.name in errors


@pytest.mark.parametrize("name", ["status", "judge", "compare", "plot"])
def test_e8_ctrl_c_in_the_programs_that_read(name, tmp_path):
    code = f"from trainers import commands; commands.{name}(['{tmp_path}'] * NUM)"
    process = start(code.replace("NUM", "2" if name == "compare" else "1"))
    while not blocks(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and len(errors.splitlines()) == 1


def test_e7_signals_while_the_main_thread_is_in_c_code():
    # No Python runs in the main thread meanwhile, as while XLA compiles.
    call = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"
    process = start(program(call=call))
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75
    process.communicate()


def test_e7_ten_signals_are_one():
    process = start(program(STUDY, WAIT))
    process.stdout.readline()
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.02)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 75 and errors == "" and int(output) >= 2


def test_e8_a_second_ctrl_c_ends_at_once():
    process = start(program(STUDY, "time.sleep(60)"))
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and len(errors.splitlines()) == 1


def test_ignored_signals_stay_ignored():
    # nohup ignores SIGHUP.
    process = start(program(), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 75


TALK = """
for i in range(100_000):
    print("line", i)
print("error", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write("done")
"""


@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", ">&- 2>&- <&-", "| head -1", "2>&1 | head -1", ">/dev/full"]
)
def test_e12_streams_that_nobody_reads(redirection, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(program(call=TALK))
    note, code = tmp_path / "note", tmp_path / "code"
    command = f"({sys.executable} {script} {note}; echo $? >{code}) {redirection}"
    done = subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (code.read_text(), note.read_text()) == ("0\n", "done"), done.stderr
    assert "Traceback" not in done.stderr and "Broken" not in done.stderr


def test_e12_a_closed_stream_does_not_give_its_number_to_a_file(tmp_path):
    code = program(call="print(open(sys.argv[0]).fileno() > 2, file=open('out', 'w'))")
    script = tmp_path / "program.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", f"{sys.executable} {script} >&- 2>&-"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "out").read_text() == "True\n"


def test_e11_folder_of_sockets_under_a_long_path(tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    process = start(
        program(forward="print(startup.socket_folder())", call=""),
        env={**os.environ, "TMPDIR": str(folder)},
    )
    output, _ = process.communicate(timeout=30)
    socket_folder = pathlib.Path(output.splitlines()[0])
    assert len(str(socket_folder)) < 70 and not socket_folder.exists()
    assert list(folder.iterdir()) == []
