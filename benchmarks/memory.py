"""Peak memory of training steps, each setting in a fresh process (Linux)."""

import ctypes
import gc
import os
import pathlib
import re
import tempfile

from benchmarks import networks

STATUS = pathlib.Path("/proc/self/status")
CLEAR = pathlib.Path("/proc/self/clear_refs")


def is_supported():
    """Whether the peak of this process's memory can be reset and read."""
    return STATUS.exists() and CLEAR.exists()


def _kilobytes(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peaks_of_steps(kind, name, batch_size, steps, options):
    """How much memory a train step takes beyond what is held between steps.

    Measured: how far the memory of the process rises while steps are taken. What it holds between
    them (weights, optimizer, programs, the library itself) is the baseline, taken after the program
    has been compiled and run; compiling would hide the rest. Planned: what XLA says that the
    program needs for activations, gradients and the like; exact, and the same on every run.

    Args:
        kind: `"svag"` (a step of 2 `batch_size`) or `"plain"` (a step of `batch_size`).
        name: of the network.
        batch_size: B.
        steps: how many.
        options: dict of options of the network and of `networks.svag`.

    Returns:
        A dict of megabytes: `measured` and `planned`.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Before XLA is first used in this process.
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text "
            "--xla_dump_hlo_module_re=.*train_step.*"
        )
        from benchmarks.tensorflow import step_side

        model = getattr(networks, kind)(name, **options)
        count = batch_size * (2 if kind == "svag" else 1)
        side = step_side(kind, model, networks.examples(name, count))
        side.run(2)
        planned = _planned(pathlib.Path(folder))
        return {"measured": _rise(lambda: side.run(steps)), "planned": planned}


def _rise(function):
    """Megabytes that this process's memory rises while a function runs."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass  # not the C library of GNU: freed memory counts as held
    CLEAR.write_text("5")
    before = _kilobytes("VmRSS")
    function()
    return (_kilobytes("VmHWM") - before) / 1024


def _planned(folder):
    """Megabytes for temporaries of the largest program that XLA wrote of."""
    sizes = []
    for report in folder.glob("*memory-usage-report.txt"):
        sizes += re.findall(r"size ([\d.]+)(B|KiB|MiB|GiB), preallocated-temp", report.read_text())
    units = {"B": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 2**10}
    return max(float(number) * units[unit] for number, unit in sizes)
