"""Peak memory of training steps, each setting in a fresh process (Linux)."""

import ctypes
import gc
import pathlib

from benchmarks import networks

STATUS = pathlib.Path("/proc/self/status")
CLEAR = pathlib.Path("/proc/self/clear_refs")


def is_supported():
    """Whether the peak of this process's memory can be reset and read."""
    return STATUS.exists() and CLEAR.exists()


def _kilobytes(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peak_of_steps(kind, name, batch_size, steps, options):
    """How far memory rises while steps are taken, above what the process holds between them.

    What the process holds between steps (weights, optimizer, programs, the library itself) is the
    baseline, taken after the program has been compiled and run; compiling would hide the rest.

    Args:
        kind: `"svag"` (a step of 2 `batch_size`) or `"plain"` (a step of `batch_size`).
        name: of the network.
        batch_size: B.
        steps: how many.
        options: dict of options of the network and of `networks.svag`.

    Returns:
        Megabytes.
    """
    from benchmarks.tensorflow import step_side

    model = getattr(networks, kind)(name, **options)
    count = batch_size * (2 if kind == "svag" else 1)
    side = step_side(kind, model, networks.examples(name, count))
    side.run(2)
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass  # not the C library of GNU: freed memory counts as held
    CLEAR.write_text("5")
    before = _kilobytes("VmRSS")
    side.run(steps)
    return (_kilobytes("VmHWM") - before) / 1024
