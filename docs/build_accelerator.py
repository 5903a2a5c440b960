"""Writes the tables of docs/tpu.md and docs/experiments.md on accelerators.

    python -m docs.build_accelerator

They come from the rows in docs/accelerator/: `tpu.json` and `gpu.json` of `benchmarks.accelerator`,
`prices.json` of `benchmarks.prices`. What is not compiled is left out.
"""

import json
import pathlib

from docs.build_results import format_table, replace_tables

DOCS = pathlib.Path(__file__).parent
FOLDER = DOCS / "accelerator"
MEGABYTE, MEBIBYTE = 1e6, 2**20
TYPES = {"float32": "float32", "mixed_bfloat16": "bfloat16"}
SLICES = {"v5e:1x1": "v5e-1", "v5e:2x4": "v5e-8", "v6e:2x4": "v6e-8"}


def load(name):
    """Returns the rows of a file, or none if there is no file."""
    path = FOLDER / name
    return json.loads(path.read_text("utf-8")) if path.exists() else []


def by_program(rows):
    """Returns rows by setting: `{(model, B, topology, chips, type): {program: row}}`."""
    settings = {}
    for row in rows:
        keys = ("model", "batch_size", "topology", "chips", "dtype")
        settings.setdefault(tuple(row[key] for key in keys), {})[row["program"]] = row
    return settings


def table(head, rows):
    """Formats a Markdown table, if there are rows."""
    if not rows:
        return "Not compiled yet: an hour or more on a machine with idle cores."
    return format_table(head, rows)


def cells_of(setting):
    """The first cells of a row: network, B, chips and type."""
    model, size, topology, chips, dtype = setting
    return [model, size, f"{chips} of {topology}" if chips > 1 else topology, TYPES[dtype]]


def ratio(first, second):
    """Formats a ratio."""
    return f"{first / second:.3f}" if second else "-"


def steps(rows):
    """What a step costs on one chip and on several, in the compiler's own figures."""
    cells = []
    for setting, programs in by_program(rows).items():
        for name in ("plain", "svag", "svag_without_noise"):
            if row := programs.get(name):
                cells.append([*cells_of(setting), name.replace("_", " "), *_costs(row)])
    head = ["network", "B", "chips", "type", "step", "GFLOP", "MB", "of these on chip"]
    return table([*head, "temporaries, MiB", "memory, MiB", "at least, ms"], cells)


def _costs(row):
    return [
        f"{row['flops'] / 1e9:,.4g}",
        f"{row['bytes'] / MEGABYTE:,.4g}",
        f"{row['on_chip_bytes'] / row['bytes']:.0%}",
        f"{row['temporary_bytes'] / MEBIBYTE:,.4g}",
        f"{row['memory_bytes'] / MEBIBYTE:,.4g}",
        f"{row['roofline_seconds'] * 1e3:.3g}",
    ]


def ratios(rows):
    """An SVAG step against two plain steps, noise on against off, bfloat16 against float32."""
    settings, cells = by_program(rows), []
    for setting, programs in settings.items():
        if not {"plain", "svag", "svag_without_noise"} <= set(programs):
            continue
        plain, svag, off = (programs[n] for n in ("plain", "svag", "svag_without_noise"))
        wide = settings.get((*setting[:-1], "float32"), {}).get("svag")
        is_narrow = setting[-1] != "float32" and wide
        cells.append(
            [
                *cells_of(setting),
                *(
                    ratio(svag[name], 2 * plain[name])
                    for name in ("flops", "bytes", "temporary_bytes")
                ),
                ratio(svag["bytes"], off["bytes"]),
                ratio(svag["bytes"], wide["bytes"]) if is_narrow else "",
            ]
        )
    head = ["network", "B", "chips", "type", "FLOP", "bytes", "temporaries"]
    return table([*head, "bytes, noise on / off", "bytes, bfloat16 / float32"], cells)


def collectives(rows):
    """What chips send each other in one step."""
    cells = [
        [
            *cells_of(setting),
            name.replace("_", " "),
            ", ".join(f"{c['count']} {kind}" for kind, c in row["collectives"].items()),
            f"{sum(c['bytes'] for c in row['collectives'].values()):,}",
        ]
        for setting, programs in by_program(rows).items()
        for name, row in programs.items()
        if row["chips"] > 1
    ]
    return table(["network", "B", "chips", "type", "program", "collectives", "bytes"], cells)


def programs(rows):
    """The other programs on one chip: memory, and cost against that of one step."""
    cells = []
    for setting, found in by_program(rows).items():
        if setting[3] > 1 or "one_step" not in found:
            continue
        one = found["one_step"]
        for name, row in found.items():
            if name not in ("plain", "svag", "svag_without_noise"):
                flops = f"{row['flops'] / 1e9:,.4g}"
                memory = [f"{row[k] / MEBIBYTE:,.4g}" for k in ("temporary_bytes", "memory_bytes")]
                against = ratio(row["flops"], one["flops"])
                cells.append([*cells_of(setting), name.replace("_", " "), flops, against, *memory])
    head = ["network", "B", "chip", "type", "program", "GFLOP", "against one step"]
    return table([*head, "temporaries, MiB", "memory, MiB"], cells)


def gpu(rows):
    """Kernels and memory on a GPU."""
    cells = []
    for setting, found in by_program(rows).items():
        for name, row in found.items():
            kernels = row["kernels"]
            libraries = sum(n for kind, n in kernels.items() if kind.startswith("__"))
            copies, moved = kernels.get("copy", 0), row["layout_copies"]["count"]
            numbers = [kernels["total"], libraries, kernels.get("fusion", 0), copies, moved]
            temporaries = f"{row['temporary_bytes'] / MEBIBYTE:,.4g}"
            cells.append([*cells_of(setting), name.replace("_", " "), *numbers, temporaries])
    head = [
        "network",
        "B",
        "GPU",
        "type",
        "program",
        "kernels",
        "of libraries",
        "fusions",
        "copies",
    ]
    return table([*head, "to another layout", "temporaries, MiB"], cells)


def prices(rows):
    """Chip-hours of each experiment on each slice."""
    found = {}
    for row in rows:
        name = f"`{row['data']}.py:{row['arguments']}`"
        found.setdefault(name, {})[row["topology"]] = row
    cells = [
        [
            name,
            *(f"{by[t]['chip_hours']:,.3g}" if t in by else "" for t in SLICES),
            *(f"{by[t]['hours']:,.3g}" if t in by else "" for t in SLICES),
        ]
        for name, by in found.items()
    ]
    head = [f"chip-hours, {name}" for name in SLICES.values()]
    return table(["config", *head, *(f"hours, {name}" for name in SLICES.values())], cells)


def pages():
    """Returns the text of each page with its tables, by path."""
    tpu = load("tpu.json")
    makers = (steps, ratios, collectives, programs)
    tables = {f"tpu_{make.__name__}": make(tpu) for make in makers}
    tables |= {"gpu": gpu(load("gpu.json")), "prices": prices(load("prices.json"))}
    paths = [DOCS / "tpu.md", DOCS / "experiments.md"]
    return {path: replace_tables(path.read_text("utf-8"), tables) for path in paths}


def main():
    """Writes the tables."""
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
