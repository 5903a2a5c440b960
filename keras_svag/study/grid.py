"""What studies share: a grid of runs executed and summarised in a table, a row per run."""

import csv
import io
import math

from tqdm import tqdm

from keras_svag.datasets import DATASETS
from keras_svag.statistics import correct_signal
from keras_svag.study import records, runs

# Means over the equilibrium window, and values at the end of the run.
WINDOW_COLUMNS = ("weight_norm", "gradient_noise", "gradient_signal", "train_loss", "test_loss")
END_COLUMNS = ("train_loss", "test_accuracy", "test_loss")


def load_dataset_of(fields):
    """Loads the data set that a config names.

    Args:
        fields: the `dataset` part of a validated config.

    Returns:
        A `keras_svag.datasets.Dataset`.
    """
    options = {name: value for name, value in fields.items() if name != "name"}
    return DATASETS[fields["name"]](**options)


def execute_grid(pool, grid, show_progress=True):
    """Executes the runs of a grid, with a progress bar over all of them.

    Args:
        pool: a `RunPool`.
        grid: list of `Run`.
        show_progress: whether to show the bar. Defaults to `True`.

    Returns:
        A dict from run name to the dict of `runs.execute`.
    """
    total = sum(run.steps for run in grid)
    with tqdm(total=total, unit="step", disable=not show_progress, mininterval=0.5) as bar:
        results = pool.execute(grid, bar.update)
        for result in results.values():
            if result["status"] == runs.FAILED:
                bar.write(result["message"])
    return results


def summarize_runs(grid, results, config, num_train, workdir):
    """A row per run: its cell of the grid, its means over the window, its end.

    Args:
        grid: list of `Run`.
        results: dict from run name to the dict of `runs.execute`.
        config: a validated config.
        num_train: n, number of training examples.
        workdir: folder of the study.

    Returns:
        A list of dicts; failed runs have the columns of their cell and `status` only.
    """
    table = []
    for run in grid:
        result = results[run.name]
        row = {
            "name": run.name,
            "batch_size": run.batch_size,
            "learning_rate": run.learning_rate,
            "method": run.method,
            "ell": run.ell,
            "seed": run.seed,
            "status": result["status"],
            "message": result.get("message", ""),
            "steps": run.steps,
            "gradient_evaluations": run.gradient_evaluations(num_train),
            "seconds": result["seconds"],
        }
        if result["status"] == runs.DONE:
            rows = records.read_jsonl(runs.RunFolder(workdir, run.name).metrics)
            means = runs.window_means(rows, run.total, config["equilibrium"])
            if "gradient_signal" in means:
                means["gradient_signal"] = correct_signal(
                    means["gradient_signal"],
                    means["gradient_noise"],
                    run.batch_size,
                    num_train,
                    config["sampling"],
                )
                signal = means["gradient_signal"]
                ratio = means["gradient_noise"] / signal if signal > 0 else math.inf
                row["noise_to_signal"] = ratio
            row |= {name: means.get(name, math.nan) for name in WINDOW_COLUMNS}
            row |= {f"final_{name}": rows[-1][name] for name in END_COLUMNS}
        table.append(row)
    return table


def column(rows, name):
    """Values of a column in the rows of finished runs.

    Args:
        rows: dicts from `summarize_runs`.
        name: name of the column.

    Returns:
        A list.
    """
    return [row[name] for row in rows if row["status"] == runs.DONE]


def write_csv(path, table):
    """Writes a table atomically.

    Args:
        path: the file.
        table: list of dicts; columns are those of any of them, in order of appearance.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in table for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    records.write_text(path, text.getvalue())
