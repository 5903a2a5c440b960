"""What studies share: a grid of runs executed and summarised in a table, a row per run."""

import csv
import io
import math
import sys

import keras

from keras_svag.datasets import DATASETS, Sampler
from keras_svag.distribution import check_batch_size
from keras_svag.models import is_scale_invariant
from keras_svag.study import records, runs
from keras_svag.study.config import effective_steps
from keras_svag.study.optimizer import build_optimizer, is_plain_sgd, scaled_learning_rate
from keras_svag.study.program import build_network
from keras_svag.study.progress import Progress
from keras_svag.theory import correct_signal, lengths_inside, window_means

# Means over the equilibrium window, and values at the end of the run.
WINDOW_COLUMNS = ("weight_norm", "gradient_noise", "gradient_signal", "train_loss", "test_loss")
MAX_STEPS = 2**31 - 1  # `iterations` is an int32 on JAX
SOME_EXAMPLES = 16  # enough to see whether a network is scale invariant
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


def make_run(config, num_train, batch_size, ell=1.0, seed=0, method=runs.SVAG):
    """The run of a cell of the grid: as long as `epochs`, with the scaled learning rate.

    Args:
        config: a validated config.
        num_train: n, number of training examples.
        batch_size: B.
        ell: amplification. Defaults to `1.0`.
        seed: int. Defaults to `0`.
        method: see `Run`. Defaults to `"svag"`.

    Returns:
        A `Run`.
    """
    rate = scaled_learning_rate(config, batch_size)
    total = effective_steps(config, num_train, batch_size)
    return runs.Run(batch_size, rate, ell, seed, total, method)


def check_buildable(config, dataset, grid):
    """Raises what a run of the grid would raise later, while nothing is written yet.

    Args:
        config: a validated config.
        dataset: a `keras_svag.datasets.Dataset`.
        grid: list of `Run`.

    Returns:
        The network that was built.

    Raises:
        ValueError: if the model cannot be built, a batch size does not go with the sampling or the
            optimizer's scaling rule, a full-batch run would see augmented images, a run has more
            steps than can be counted, or no records in the window over which N, G and R are
            averaged.
    """
    _check_lengths(grid)
    network = build_network(config, dataset, seed=0)
    for batch_size, ell in sorted({(run.batch_size, run.ell) for run in grid}):
        optimizer = build_optimizer(config, batch_size, config["learning_rate"])
        optimizer.ell = ell
    # Gaussian noise draws no batches.
    for batch_size in sorted({run.batch_size for run in grid if run.method == runs.SVAG}):
        Sampler(dataset.num_train, batch_size, config["sampling"])
        check_batch_size(batch_size)
    if dataset.augmentation is not None and any(run.method == runs.GAUSSIAN for run in grid):
        raise ValueError(
            "`dataset.augment` must be False for full-batch steps with Gaussian noise, whose "
            "covariance is that of a fixed set of examples. Received: augment=True"
        )
    check_records(config, grid)
    return network


def _check_lengths(grid):
    for run in grid:
        if run.steps > MAX_STEPS:
            raise ValueError(
                f"`epochs` and `ell` must be so small that a run has at most {MAX_STEPS:,} steps, "
                f"which the optimizer can count. Received: run {run.name} with {run.steps:,} steps "
                f"(ell={run.ell:g} times {run.total:,}). Use a smaller ell or fewer epochs."
            )


def check_records(config, grid):
    """Raises where a run would have no records in the window over which N, G and R are averaged.

    Args:
        config: a validated config.
        grid: list of `Run`.

    Raises:
        ValueError: naming the run.
    """
    for run in grid:
        points = run.record_points(config["num_records"])
        if not any(lengths_inside(points, run.total, config["equilibrium"])):
            raise ValueError(
                "`num_records` must be so large that some records lie inside `equilibrium`, "
                f"over which N, G and R are averaged; run {run.name} would have none. Received: "
                f"num_records={config['num_records']}, equilibrium={config['equilibrium']}. Use "
                "more records, or longer runs."
            )


def network_properties(network, dataset):
    """What the theory asks of a network, at the start of a run.

    Args:
        network: a built `keras.Model`.
        dataset: a `keras_svag.datasets.Dataset`.

    Returns:
        A dict of bools: `scale_invariant` (see `keras_svag.models.is_scale_invariant`) and
        `independent_of_batch`: with batch normalisation the loss of an example depends on the
        others, so that two batch sizes have two losses and two SDEs.
    """
    x = dataset.train_x[:SOME_EXAMPLES]
    x = x if dataset.normalization is None else dataset.normalization(x)
    has_batch_norm = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers
    )
    return {
        "scale_invariant": is_scale_invariant(network, x),
        "independent_of_batch": not has_batch_norm,
    }


def theory_premises(config, network):
    """What the paper's conditions assume of every run, and whether it is so.

    Args:
        config: a validated config.
        network: dict of `network_properties`, or `None` if they are not known.

    Returns:
        A dict from premise to a bool, or `None` where that is not known.
    """
    return {
        "SGD without momentum": is_plain_sgd(config),
        "weight decay": config["weight_decay"] > 0,
        "scale invariant network": (network or {}).get("scale_invariant"),
    }


def announce_cost(grid, num_train, workdir, show_progress=True, shard=None):
    """Prints what is to be done, on the stream of the progress bar and before it.

    Args:
        grid: list of `Run`.
        num_train: n, number of training examples.
        workdir: folder of the study, where finished runs are.
        show_progress: whether to print at all. Defaults to `True`.
        shard: a `Shard`, or `None` for the whole grid. Defaults to `None`.
    """
    if show_progress:
        grid = shard.select(grid, num_train) if shard else grid
        todo = [run for run in grid if not is_finished(workdir, run)]
        line = describe_cost(todo, num_train)
        done = f" Finished before: {len(grid) - len(todo)}." if len(todo) < len(grid) else ""
        print(f"{line}{done}", file=sys.stderr, flush=True)


def describe_cost(grid, num_train):
    """Cost of runs in words.

    Args:
        grid: list of `Run`.
        num_train: n, number of training examples.

    Returns:
        A string.

    Example:

    >>> describe_cost([runs.Run(8, 0.2, ell=2.0, seed=0, total=500)], num_train=1437)
    'To do: 1 run, 1,000 steps, 2,000 gradients of a batch, 16,000 examples.'
    """
    steps = sum(run.steps for run in grid)
    gradients = [run.gradient_evaluations(num_train) for run in grid]
    examples = sum(run.batch_size * count for run, count in zip(grid, gradients))
    return (
        f"To do: {len(grid)} run{'' if len(grid) == 1 else 's'}, {steps:,} steps, "
        f"{sum(gradients):,} gradients of a batch, {examples:,} examples."
    )


def execute_grid(pool, grid, num_train, workdir, show_progress=True, shard=None):
    """Executes the runs of a grid, with a progress bar over all of them.

    Args:
        pool: a `RunPool`.
        grid: list of `Run`.
        num_train: n, number of training examples.
        workdir: folder of the study, where finished runs are.
        show_progress: whether to show the bar. Defaults to `True`.
        shard: a `Shard`, or `None` for the whole grid. Defaults to `None`.

    Returns:
        A dict from run name to the dict of `runs.execute`; `None` where the runs of a shard are
        finished and some of the others are not.
    """
    own = shard.select(grid, num_train) if shard else grid
    (results,) = execute_stages(pool, [own], num_train, workdir, show_progress)
    return gather(pool, grid, results, workdir)


def gather(pool, grid, results, workdir):
    """Adds the results of the runs that other shards have done.

    Args:
        pool: a `RunPool`.
        grid: list of all `Run` of the study.
        results: dict from run name to the dict of `runs.execute`, of the runs done here.
        workdir: folder of the study.

    Returns:
        Such a dict of the whole grid; `None` if runs of other shards are not finished yet.
    """
    others = [run for run in grid if run.name not in results]
    if not others:
        return results
    if not all(is_finished(workdir, run) for run in others):
        return None
    # Finished, so that this only reads their results; or mends them, if their records are damaged.
    return results | pool.execute(others, lambda run, steps: None)


def is_finished(workdir, run):
    """Whether there is a result of a run.

    Args:
        workdir: folder of the study.
        run: a `Run`.

    Returns:
        A bool.
    """
    return runs.RunFolder(workdir, run.name).result.exists()


def execute_stages(pool, stages, num_train, workdir, show_progress=True):
    """Executes grids one after the other, with one progress bar over all of them.

    Args:
        pool: a `RunPool`.
        stages: list of lists of `Run`.
        num_train: n, number of training examples.
        workdir: folder of the study, where finished runs are.
        show_progress: whether to show the bar. Defaults to `True`.

    Yields:
        For each stage, when all its runs are finished and before any of the next begins, a dict
        from run name to the dict of `runs.execute`.
    """
    every = [run for grid in stages for run in grid]
    finished = [run.name for run in every if is_finished(workdir, run)]
    with Progress(every, num_train, finished, show_progress) as progress:
        for grid in stages:
            results = pool.execute(grid, progress.advance)
            for result in results.values():
                if result["status"] == runs.FAILED:
                    progress.write(result["message"])
            yield results


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
            means = window_means(rows, run.total, config["equilibrium"])
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
