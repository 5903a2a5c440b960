"""Measures the speed of keras_svag as ratios, explained in docs/benchmarks.md.

    python -m benchmarks.run                # all, about an hour on 2 cores
    python -m benchmarks.run --only=a,b     # some
    python -m benchmarks.run --quick        # a test; its figures mean nothing
    KERAS_BACKEND=jax python -m benchmarks.run --only=b    # JAX: only the part on `fit`

Prints a table and writes all measurements to a JSON file.
"""

import argparse
import dataclasses
import os
import pathlib
import platform
import sys
import time

LETTERS = "abcdefghij"
DISTRIBUTIONS = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy")


def parse(arguments):
    """Parses the flags `only` (a list of letters), `quick`, `repeats` and `output`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", type=_letters, default=list(LETTERS), metavar="a,b")
    parser.add_argument("--quick", action="store_true", help="test that everything runs")
    parser.add_argument("--repeats", type=int, help="how often to time each side (default 11)")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("benchmarks.json"))
    return parser.parse_args(arguments)


def _letters(text):
    letters = text.split(",")
    if not set(letters) <= set(LETTERS):
        raise argparse.ArgumentTypeError(
            f"must be a list of letters of {','.join(LETTERS)}. Received: {text!r}"
        )
    return letters


def installed_versions(packages):
    """Returns the versions of those packages that are installed, by name."""
    from keras_svag.version import package_versions  # not before a backend is chosen

    found = package_versions(packages)
    return {name: found[name] for name in packages if name in found}


def environment(program="benchmarks.run"):
    """Returns a dict on the machine, the versions and the command."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": cores,
        "threads": "TensorFlow's and PyTorch's own choice",
        "versions": installed_versions(DISTRIBUTIONS),
        "command": ["python", "-m", program, *sys.argv[1:]],
    }


def format_table(figures):
    """Formats a list of `Figure` as a Markdown table."""
    rows = ["| | what | ratio [quartiles] | processor time | asked for | repeats | above | below |"]
    rows.append("|" + "---|" * 8)
    for figure in figures:
        lower, median, upper = figure.quartiles
        sides = [
            f"{name} {_middle(values):.4g} {figure.unit}"
            for name, values in (
                (figure.numerator, figure.numerators),
                (figure.denominator, figure.denominators),
            )
        ]
        ratio = f"{median:.3g} [{lower:.3g}, {upper:.3g}]"
        cpu = "" if figure.cpu_median is None else f"{figure.cpu_median:.3g}"
        asked = [figure.target, str(len(figure.ratios))]
        cells = [figure.letter, figure.name, ratio, cpu, *asked, *sides]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _middle(values):
    return sorted(values)[len(values) // 2]


def main(arguments=None):
    """Runs the benchmarks, prints the table and writes the JSON file."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from benchmarks.figures import BENCHMARKS
    from benchmarks.timing import FULL, QUICK
    from keras_svag.engine.files.records import write_json

    plan = QUICK if options.quick else FULL
    if options.repeats:
        plan = dataclasses.replace(plan, repeats=options.repeats)
    figures, seconds = [], {}
    for letter in options.only:
        start = time.perf_counter()
        figures += BENCHMARKS[letter](plan)
        seconds[letter] = round(time.perf_counter() - start, 1)
        print(f"{letter} took {seconds[letter]:.0f} s", flush=True)
        result = {
            "quick": options.quick,
            "environment": environment(),
            "seconds": seconds,
            "figures": [figure.as_dict() for figure in figures],
        }
        # After each letter, so that an interrupted run keeps its results.
        write_json(options.output, result)
    print(format_table(figures))


if __name__ == "__main__":
    main()
