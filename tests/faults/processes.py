"""The processes that a trainer started, as Linux shows them."""

import os
import pathlib
import time

SESSION, PARENT, STATE = 3, 1, 0  # fields of /proc/PID/stat after the name


def stat(pid):
    """Fields of `/proc/PID/stat` after the name, or `None` if there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None


def is_running(pid):
    """Returns True if a process is there and has not ended."""
    fields = stat(pid)
    return fields is not None and fields[STATE] not in "ZX"


def session_of(leader):
    """The living processes of a session, by the role that each has in a study."""
    roles = {"parent": [], "server": [], "tracker": [], "worker": []}
    for entry in os.listdir("/proc"):
        fields = stat(entry) if entry.isdigit() else None
        if fields is None or int(fields[SESSION]) != leader or fields[STATE] in "ZX":
            continue
        roles[_role(int(entry), int(fields[PARENT]), leader)].append(int(entry))
    return roles


def _role(pid, parent, leader):
    if pid == leader:
        return "parent"
    try:
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        command = b""
    if b"resource_tracker" in command:
        return "tracker"
    return "server" if b"forkserver" in command and parent == leader else "worker"


def wait_until_none_is_left(leader, seconds=5.0):
    """Returns the processes of a session that are there after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        left = sorted(sum(session_of(leader).values(), []))
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def blocks(pid, signum):
    """Returns True if the main thread of a process blocks a signal."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith("SigBlk:")]
    return bool(masks) and bool(masks[0] >> (signum - 1) & 1)


def num_descriptors(pid="self"):
    """Number of descriptors that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
