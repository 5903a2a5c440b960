"""Tests of trainers/quiet.py: information of native libraries is hidden, everything else is not."""

import os
import subprocess
import sys

import pytest

from tests.trainers.command import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the filter is for POSIX")

HEADER = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
INFORMATION = "I0000 00:00:1795949805.234575    7647 port.cc:153] oneDNN custom operations are on."
DATED = "2026-01-31 12:00:00.500000: I tensorflow/core/platform/cpu_feature_guard.cc:182] This"
SECOND_LINE = "To enable the following instructions: AVX2, in other operations, rebuild TensorFlow"
WARNING = "W0000 00:00:1795949805.234575    7647 computation_placer.cc:177] already registered"
FACTORY = (
    "E0000 00:00:17959.1    7647 cuda_fft.cc:467] Unable to register cuFFT factory: Attempting to "
    "register factory for plugin cuFFT when one has already been registered"
)
ERROR = "E0000 00:00:1795949805.234575    7647 cuda_driver.cc:265] failed call to cuInit"
FATAL = "F0000 00:00:1795949805.234575    7647 cpu_feature_guard.cc:34] compiled to use AVX"
OTHERS = ("Illegal instruction", "a UserWarning of Python", "In other words", "")

# Writes to the descriptor, as a library does, and then goes on in Python or aborts.
PROGRAM = """
import os, sys
from trainers import quiet, startup

startup.begin()
quiet.set_levels()
with quiet.imports():
    os.write(2, sys.argv[1].encode())
    print("from Python", file=sys.stderr)
    if sys.argv[2] == "abort":
        os.abort()
print("I0000 00:00:1.5    1 late.cc:1] afterwards", file=sys.stderr)
"""


def run(lines, how="go on", **environment):
    text = "".join(f"{line}\n" for line in lines)
    variables = {n: value for n, value in os.environ.items() if n != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, text, how],
        cwd=ROOT,
        env=variables | environment,
        capture_output=True,
        text=True,
    )


def test_only_information_is_hidden_and_only_during_imports():
    hidden = [HEADER, INFORMATION, DATED, SECOND_LINE, WARNING, FACTORY]
    shown = [ERROR, FATAL, *OTHERS]
    done = run([line for pair in zip(hidden, shown) for line in pair])
    assert done.returncode == 0
    *lines, last = done.stderr.splitlines()
    assert lines == [*shown, "from Python"] and last.endswith("afterwards")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("0", [HEADER, INFORMATION, WARNING, ERROR]),
        ("1", [WARNING, ERROR]),
        ("3", []),
        ("nonsense", [HEADER, INFORMATION, WARNING, ERROR]),
    ],
)
def test_the_level_of_the_user_counts(level, shown):
    done = run([HEADER, INFORMATION, WARNING, ERROR], TF_CPP_MIN_LOG_LEVEL=level)
    assert done.stderr.splitlines()[:-2] == shown


def test_last_words_of_a_library_that_aborts():
    done = run([HEADER, FATAL], how="abort")
    assert done.returncode < 0
    assert done.stderr.splitlines() == [FATAL, "from Python"]


def test_a_program_whose_errors_nobody_reads(tmp_path):
    command = f"({sys.executable} -c '{PROGRAM}' x go; echo $? >{tmp_path}/code) 2>&1 | true"
    subprocess.run(["bash", "-c", command], cwd=ROOT, check=True)
    assert (tmp_path / "code").read_text() == "0\n"


def test_no_process_is_left_and_the_descriptor_is_that_of_before():
    code = (
        "import os\nfrom trainers import quiet\nbefore = os.fstat(2).st_ino\n"
        "with quiet.imports():\n    assert os.fstat(2).st_ino != before\n"
        "    assert os.fstat(quiet.errors).st_ino == before\n"
        "assert os.fstat(2).st_ino == before and quiet.errors == 2\n"
        "try:\n    os.waitpid(-1, os.WNOHANG)\n    raise AssertionError\n"
        "except ChildProcessError:\n    pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
