"""Peak memory of training steps, each setting in a fresh process (Linux)."""

import ctypes
import functools
import gc
import os
import pathlib
import re
import tempfile
import unittest.mock

from benchmarks.processes import in_fresh_process
from benchmarks.sides import networks
from benchmarks.timing import Figure

STATUS = pathlib.Path("/proc/self/status")
CLEAR = pathlib.Path("/proc/self/clear_refs")
STEPS = 4


def is_supported():
    """Returns True if the peak of this process's memory can be reset and read."""
    return STATUS.exists() and CLEAR.exists()


def _kilobytes(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def growth_of_memory(plan):
    """f: peak memory of an SVAG step against plain steps."""
    settings = [
        ("preresnet", 128, {"depth": 14, "norm": "batch"}),
        ("preresnet", 128, {"depth": 14, "norm": "group"}),
        ("mlp", 128, {"width": 32, "depth": 4}),
    ]
    if plan.quick:
        settings = [("mlp", 32, {"width": 8})]
    figures = []
    for name, batch_size, options in settings:
        measure = functools.partial(_peaks, name, options, plan.few)
        ours = measure("svag", batch_size, measure_noise=True)
        others = {
            "noise off": measure("svag", batch_size, measure_noise=False),
            "plain step at B": measure("plain", batch_size),
            "plain step at 2B": measure("plain", 2 * batch_size),
        }
        for label, theirs in others.items():
            for kind in ("planned", "measured"):
                a, b = ([peaks[kind] for peaks in side] for side in (ours, theirs))
                title = f"peak memory {kind}, {networks.title(name, batch_size, **options)}"
                ratios = [x / y for x, y in zip(a, b)]
                figures.append(Figure("f", title, "SVAG step", label, ratios, a, b, "MB"))
    return figures


def _peaks(name, options, repeats, kind, batch_size, **more):
    arguments = (kind, name, batch_size, STEPS, {**options, **more})
    # With oneDNN TensorFlow keeps all memory that it ever allocated, and hides the rise.
    with unittest.mock.patch.dict(os.environ, TF_ENABLE_ONEDNN_OPTS="0"):
        return [in_fresh_process(peaks_of_steps, *arguments) for _ in range(repeats)]


def peaks_of_steps(kind, name, batch_size, steps, options):
    """Returns the memory of a train step of `kind` "svag" or "plain" beyond that between steps."""
    # measured: the rise of the process's memory while steps are taken, after the program has been
    # compiled and run once, since compilation would hide it. planned: XLA's own figure for
    # activations and gradients, which is exact.
    with tempfile.TemporaryDirectory() as folder:
        # XLA reads this once, when it is first used in the process.
        os.environ["XLA_FLAGS"] = (
            f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text "
            "--xla_dump_hlo_module_re=.*train_step.*"
        )
        from benchmarks.sides.tensorflow import step_side

        model = getattr(networks, kind)(name, **options)
        count = batch_size * (2 if kind == "svag" else 1)
        side = step_side(kind, model, networks.examples(name, count))
        side.run(2)
        planned = _planned(pathlib.Path(folder))
        return {"measured": _rise(lambda: side.run(steps)), "planned": planned}


def _rise(function):
    """Returns the peak of this process's memory during a call, above that before it, in MB."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass  # not glibc: freed memory counts as used
    CLEAR.write_text("5")
    before = _kilobytes("VmRSS")
    function()
    return (_kilobytes("VmHWM") - before) / 1024


def _planned(folder):
    """Returns the temporaries of the largest program in XLA's reports, in MB."""
    sizes = []
    for report in folder.glob("*memory-usage-report.txt"):
        sizes += re.findall(r"size ([\d.]+)(B|KiB|MiB|GiB), preallocated-temp", report.read_text())
    units = {"B": 2**-20, "KiB": 2**-10, "MiB": 1.0, "GiB": 2**10}
    return max(float(number) * units[unit] for number, unit in sizes)
