"""Hides what native libraries log while they are imported; errors and all other lines stay.

TensorFlow logs some lines before it reads TF_CPP_MIN_LOG_LEVEL. For as long as an import takes,
standard error goes through a process, this file as a script, that leaves them out. Unlike a thread,
it also passes on the last words of a library that aborts. Imports only the standard library.
"""

import contextlib
import os
import re
import sys

LEVEL = "TF_CPP_MIN_LOG_LEVEL"
DEFAULT_LEVEL = "2"  # neither information nor warnings
SEVERITIES = "IWE"  # from level 1 on, 2 and 3
WAIT_SECONDS = 5.0

# The descriptor of standard error, while 2 leads to the process above too.
errors = 2

# `I0000 00:00:17.42  53 port.cc:153] ...`, or with a date `2026-01-31 12:00:00.5: I tensorflow/...`
PREFIXES = (r"[{}]\d{{4}} [\d:.]+ +\d+ [\w./-]+:\d+\] ", r"\d{{4}}-\d\d-\d\d [\d:.]+: [{}] ")
# The header of the lines above, and the second line of one of them.
HARMLESS = (
    r"WARNING: All log messages before absl::InitializeLog\(\) is called",
    r"To enable the following instructions: .* rebuild TensorFlow",
    # On GPUs: https://github.com/tensorflow/tensorflow/issues/62075
    r"E.*Unable to register cu\w+ factory: Attempting to register factory for plugin",
)


def set_levels():
    """Sets the log levels of libraries that are not imported yet, unless the user has."""
    import logging

    os.environ.setdefault(LEVEL, DEFAULT_LEVEL)
    # "Matplotlib is building the font cache", at the first figure on a machine.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


@contextlib.contextmanager
def imports():
    """Context in which libraries are imported without what they log below the level."""
    hidden = SEVERITIES[: _level()]
    if os.name != "posix" or not hidden:
        yield
        return
    global errors
    import subprocess

    sys.stderr.flush()
    errors = original = os.dup(2)
    try:
        # Inherits blocked signals. Ends when nobody holds the other end of its standard input.
        command = [sys.executable, "-I", "-S", __file__, hidden]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        os.dup2(process.stdin.fileno(), 2)
        process.stdin.close()
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(WAIT_SECONDS)
    finally:
        errors = 2
        os.close(original)


def _level():
    try:
        return max(0, int(os.environ.get(LEVEL, DEFAULT_LEVEL)))
    except ValueError:
        return 0


def pass_on(hidden):
    """Copies standard input to standard error, without lines of these severities."""
    patterns = [prefix.format(hidden) for prefix in PREFIXES]
    pattern = re.compile("|".join((*patterns, *HARMLESS)).encode())
    rest = b""
    while chunk := os.read(0, 2**16):
        *lines, rest = (rest + chunk).split(b"\n")
        _write(b"".join(line + b"\n" for line in lines if not pattern.match(line)))
    _write(b"" if pattern.match(rest) else rest)


def _write(text):
    with contextlib.suppress(OSError):  # nobody reads it
        while text:
            text = text[os.write(2, text) :]


if __name__ == "__main__":
    pass_on(sys.argv[1])
