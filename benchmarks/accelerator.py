"""Compiles what users run for TPUs and GPUs that are not there, and counts what it costs.

    pip install -e ".[jax,tpu-compile]"
    python -m benchmarks.accelerator --topology=v5e:2x2 --output=F.json
    python -m benchmarks.accelerator --topology=v5e:1x1 --output=F.json --models=preresnet8
    python -m benchmarks.accelerator --topology=h100 --output=F.json    # with ".[jax-cuda]"

Writes a JSON list of objects, one per program, after each of them; those that are in the file are
not compiled again. docs/tpu.md explains the figures.
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import sys

from benchmarks.run import installed_versions

KEYS = ("topology", "program", "model", "batch_size", "chips", "dtype")
DTYPES = ("float32", "mixed_bfloat16")
BATCH_SIZES = {"mlp": 8}
TARGET_CONFIG = pathlib.Path(__file__).with_name("h100.txtpb")
PACKAGES = ("keras", "jax", "libtpu", "jax-cuda12-plugin")


def parse(arguments):
    """Parses the flags; lists are separated by commas."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accelerator", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--topology", required=True, help="such as v5e:2x2, v6e:1x1 or h100")
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--models", type=_list, default=["mlp", "preresnet8"])
    parser.add_argument("--programs", type=_list, help="default: all")
    parser.add_argument("--dtypes", type=_list, default=list(DTYPES))
    parser.add_argument("--batch_size", type=int, help="B (default 128, for the MLP 8)")
    counts = "chips that share a batch; default: 1, and all"
    parser.add_argument("--chips", type=lambda text: list(map(int, _list(text))), help=counts)
    return parser, parser.parse_args(arguments)


def _list(text):
    return text.split(",")


def settings_of(options, known_programs, num_chips):
    """Returns the keys of all rows that the flags ask for."""
    chips = options.chips or sorted({1, num_chips})
    programs = options.programs or list(known_programs)
    for model, count, dtype, program in itertools.product(
        options.models, chips, options.dtypes, programs
    ):
        size = options.batch_size or BATCH_SIZES.get(model, 128)
        yield dict(zip(KEYS, (options.topology, program, model, size, count, dtype)))


def measure(setting, target):
    """Returns the row of a setting: its keys, the `Counts`, and what follows from them."""
    import keras

    from benchmarks.sides import ahead
    from keras_svag.accelerators import roofline_seconds
    from keras_svag.xla_policy import assume_accelerator

    keras.config.set_dtype_policy(setting["dtype"])
    try:
        with assume_accelerator(target.chip.platform):
            work = ahead.Work(setting["model"], setting["batch_size"])
            program = ahead.PROGRAMS[setting["program"]](work, target)
        counts = target.compile(program)
    finally:
        keras.config.set_dtype_policy("float32")
    return {
        **setting,
        **dataclasses.asdict(counts),
        "memory_bytes": counts.memory_bytes,
        "fits": counts.memory_bytes < target.chip.memory,
        "roofline_seconds": roofline_seconds(counts, target.chip, setting["dtype"]),
        "versions": installed_versions(PACKAGES),
    }


def describe(row):
    """Describes a row on one line."""
    cost = "" if row["flops"] is None else f"{row['flops'] / 1e9:,.4g} GFLOP, "
    return (
        f"{row['model']} {row['program']} B={row['batch_size']} {row['dtype']}, "
        f"{row['chips']} of {row['topology']}: {cost}"
        f"{row['temporary_bytes'] / 2**20:,.1f} MiB of temporaries, "
        f"{row['kernels']['total']} kernels, compiled in {row['compile_seconds']:.0f} s"
    )


def main(arguments=None):
    """Compiles, and writes the rows."""
    parser, options = parse(sys.argv[1:] if arguments is None else arguments)
    # Before JAX is imported: it computes on the CPU, and only compiles for others.
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    # Otherwise CUDA's compiler would try its algorithms on a GPU.
    os.environ.setdefault("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    from benchmarks.sides import ahead
    from keras_svag._checks import one_of
    from keras_svag.accelerators import Target, parse_topology
    from keras_svag.engine.files.records import write_json

    try:
        _, num_chips = parse_topology(options.topology)
        known = {"models": ahead.MODELS, "programs": ahead.PROGRAMS, "dtypes": DTYPES}
        for name, allowed in known.items():
            for value in getattr(options, name) or []:
                one_of(name, value, allowed)
        rows = json.loads(options.output.read_text()) if options.output.exists() else []
        done = {tuple(row[key] for key in KEYS) for row in rows}
        for setting in settings_of(options, ahead.PROGRAMS, num_chips):
            key = tuple(setting.values())
            if key in done or not ahead.can_run(
                *(setting[k] for k in ("program", "model", "chips"))
            ):
                continue
            target = Target(options.topology, setting["chips"], TARGET_CONFIG.read_text())
            rows.append(measure(setting, target))
            write_json(options.output, rows)
            print(describe(rows[-1]), flush=True)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
