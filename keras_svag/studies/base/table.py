"""The table of a study: a row per run, with its means over the window and its end."""

import csv
import io
import math

from keras_svag import theory
from keras_svag.engine.execution import DONE
from keras_svag.engine.files import records
from keras_svag.engine.state import RunFolder
from keras_svag.theory import correct_signal
from keras_svag.theory.equilibrium.measurement import window_means

# Means over the equilibrium window.
WINDOW_COLUMNS = ("weight_norm", "gradient_noise", "gradient_signal", "train_loss", "test_loss")


def summarize_runs(specs, results, window, facts, workdir):
    """A row per run: its cell of the grid, its means over the window, its end.

    Args:
        specs: list of `RunSpec`.
        results: dict from run name to the dict of `result.json`.
        window: tuple of two fractions of the run.
        facts: the `TrainingFacts`.
        workdir: folder of the study.

    Returns:
        A list of dicts; failed runs have the columns of their cell and `status` only.
    """
    table = []
    for spec in specs:
        result = results[spec.name]
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
            row |= _means(spec, rows, window, facts)
            row |= {f"final_{name}": rows[-1][name] for name in end_columns(rows[-1])}
        table.append(row)
    return table


def _means(spec, rows, window, facts):
    means = window_means(rows, spec.total, window)
    row = {}
    if "gradient_signal" in means:
        means["gradient_signal"] = correct_signal(
            means["gradient_signal"],
            means["gradient_noise"],
            spec.batch_size,
            facts.num_train,
            facts.sampling,
        )
        signal = means["gradient_signal"]
        row["noise_to_signal"] = means["gradient_noise"] / signal if signal > 0 else math.inf
    return row | {name: means.get(name, math.nan) for name in WINDOW_COLUMNS}


def end_columns(row):
    """Columns of a record that sum up the end of a run: training loss, all of the test data."""
    tests = [name for name in row if name.startswith("test_") and name != "test_loss"]
    return ["train_loss", *tests, *(["test_loss"] if "test_loss" in row else [])]


def final_columns(table):
    """Names of the columns of a table that hold the end of a run, without their prefix."""
    names = [name for row in table for name in row if name.startswith("final_")]
    return [name.removeprefix("final_") for name in dict.fromkeys(names)]


def read_rows(workdir, name):
    """The records of a finished run.

    Raises:
        DamagedError: if there are none.
    """
    path = RunFolder(workdir, name).metrics
    rows = records.read_jsonl(path)
    if not rows:
        raise records.damaged(path, "there is no record of a finished run")
    return rows


def column(rows, name):
    """Values of a column in the rows of finished runs."""
    return [row[name] for row in rows if row["status"] == DONE]


def summarize_quantities(rows, columns=WINDOW_COLUMNS):
    """Intervals over seeds of what the rows of a cell hold: window means, N/G, end of the run."""
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


def pair_by_seed(first, second):
    """Pairs of finished runs of two cells that share their seed."""
    by_seed = {row["seed"]: row for row in second if row["status"] == DONE}
    return [
        (row, by_seed[row["seed"]])
        for row in first
        if row["status"] == DONE and row["seed"] in by_seed
    ]


def failed_runs(table):
    """Messages of the runs that failed, by name."""
    return {row["name"]: row["message"] for row in table if row["status"] != DONE}


def write_csv(path, table):
    """Writes a table atomically; columns are those of any row, in order of appearance."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    records.write_text(path, text.getvalue())
