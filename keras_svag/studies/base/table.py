"""The table of a study, a row per run."""

import collections
import csv
import io
import math

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.engine.files import records, results
from keras_svag.engine.state import RunFolder
from keras_svag.theory import correct_signal
from keras_svag.theory.equilibrium.measurement import window_means

# Quantities that are averaged over the window.
WINDOW_COLUMNS = ("weight_norm", "gradient_noise", "gradient_signal", "train_loss", "test_loss")


def summarize_runs(specs, found, window, facts, workdir):
    """A row per run: its cell of the grid, window means, final values; less for failed runs."""
    table = []
    for spec in specs:
        result = found[spec.name]
        row = {
            "name": spec.name,
            "batch_size": spec.batch_size,
            "learning_rate": spec.learning_rate,
            "method": spec.method,
            "ell": spec.ell,
            "seed": spec.seed,
            "status": result["status"],
            "message": result.get("message", ""),
            "steps": spec.steps,
            "gradient_evaluations": spec.gradient_evaluations(facts.num_train),
            "seconds": result["seconds"],
        }
        if result["status"] == DONE:
            rows = read_rows(workdir, spec.name)
            row |= _window_row(spec, rows, window, facts)
            row |= {f"final_{name}": _number(rows[-1][name]) for name in end_columns(rows[-1])}
        table.append(row)
    return table


def _window_row(spec, rows, window, facts):
    means = window_means(rows, spec.total, window)
    ratio = {}
    if "gradient_signal" in means:
        noise = means["gradient_noise"]
        signal = means["gradient_signal"] = correct_signal(
            means["gradient_signal"], noise, spec.batch_size, facts.num_train, facts.sampling
        )
        ratio["noise_to_signal"] = noise / signal if signal > 0 else math.inf
    return ratio | {name: means.get(name, math.nan) for name in WINDOW_COLUMNS}


def _number(value):
    """Returns NaN for what JSON holds as null: a value that was not finite."""
    return math.nan if value is None else value


def end_columns(row):
    """Columns of the last record that go into the table: train loss, all metrics on test data."""
    tests = [name for name in row if name.startswith("test_") and name != "test_loss"]
    return ["train_loss", *tests, *(["test_loss"] if "test_loss" in row else [])]


def final_columns(table):
    """Names of the `final_` columns of a table, without this prefix."""
    names = [name for row in table for name in row if name.startswith("final_")]
    return [name.removeprefix("final_") for name in dict.fromkeys(names)]


def read_rows(workdir, name):
    """The records of a finished run; raises a `DamagedRunError` unless they are its own."""
    return results.read_rows(RunFolder(workdir, name))


def column(rows, name):
    """Values of a column in the rows of finished runs."""
    return [row[name] for row in rows if row["status"] == DONE]


def summarize_quantities(rows, columns=WINDOW_COLUMNS):
    """Intervals over the seeds of a cell: window means, N/G, final values."""
    summary = {}
    for name in columns:
        target = "equilibrium_train_loss" if name == "train_loss" else name
        summary[target] = theory.mean_interval(column(rows, name))
    summary["noise_to_signal"] = theory.ratio_of_means(
        column(rows, "gradient_noise"), column(rows, "gradient_signal")
    )
    for name in final_columns(rows):
        summary[name] = theory.mean_interval(column(rows, f"final_{name}"))
    return summary


def failed_runs(table):
    """Error messages of the failed runs, by name."""
    return {row["name"]: row["message"] for row in table if row["status"] != DONE}


def mixed_versions(results):
    """Packages of which the runs had several versions: the number of runs by version."""
    counts: dict[str, collections.Counter] = {}
    for result in results.values():
        for package, version in result.get("versions", {}).items():
            counts.setdefault(package, collections.Counter())[version] += 1
    # "3.14.0, 3.15.1" is a run that was resumed under another version.
    return {
        package: dict(sorted(count.items()))
        for package, count in counts.items()
        if len(count) > 1 or any(", " in version for version in count)
    }


def write_csv(path, table):
    """Writes a table atomically; rows may have different columns."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    records.write_text(path, text.getvalue())
