"""The study "is SGD well modelled by its SDE?": a grid of runs, tables, verdict, report.

Li, Malladi, Arora 2021 (arXiv 2102.12470), sections 4 and 5: SGD is compared with the limit of
SVAG(l), extrapolated from the two largest l.
"""

import functools
import math

import numpy as np

from keras_svag import theory
from keras_svag.study import figures, records, runs
from keras_svag.study.config import validate_config
from keras_svag.study.grid import (
    END_COLUMNS,
    WINDOW_COLUMNS,
    announce_cost,
    check_buildable,
    column,
    execute_grid,
    load_dataset_of,
    make_run,
    network_properties,
    summarize_runs,
    theory_premises,
)
from keras_svag.study.pool import RunPool
from keras_svag.study.shard import parse_shard
from keras_svag.study.text import align, format_interval
from keras_svag.study.workdir import begin, finish

STUDY = "sde_validity"


def run_sde_validity(config, workdir, command=None, show_progress=True, shard=None):
    """Runs the study, or goes on with it, and writes everything it leaves behind.

    Args:
        config: nested dict or `ConfigDict`, such as `configs/digits.py` gives.
        workdir: folder for all files.
        command: list of strings, the command to show in the report. Defaults to that of this
            process.
        show_progress: whether to show a progress bar. Defaults to `True`.
        shard: `"i/n"` to do the i-th of n parts of the runs only, or `None` for all of them.
            Defaults to `None`.

    Returns:
        The dict that stands in `verdict.json`; `None` as long as runs of other shards are missing.

    Raises:
        ValueError: if the config is wrong or `workdir` belongs to another one.
        PreemptedError: after checkpoints, if SIGTERM came and `preemption.watch` was called.
        WriteError: if a file cannot be written.
    """
    shard = parse_shard(shard)
    config = validate_config(config)
    load_dataset = functools.partial(load_dataset_of, config["dataset"])
    dataset = load_dataset()
    num_train = dataset.num_train
    network = check_buildable(config, dataset, build_grid(config, num_train))
    network = network_properties(network, dataset)
    workdir, setting = begin(workdir, STUDY, config, dataset, command)
    num_seeds = dict.fromkeys(config["sde_validity"]["batch_sizes"], config["num_seeds"])
    with RunPool(config, load_dataset, workdir, config["num_workers"]) as pool:
        while True:
            grid = build_grid(config, num_train, num_seeds)
            announce_cost(grid, num_train, workdir, show_progress, shard)
            results = execute_grid(pool, grid, num_train, workdir, show_progress, shard)
            if results is None:
                return None
            table = summarize_runs(grid, results, config, num_train, workdir)
            verdict = build_verdict(table, config, network)
            more = _seeds_to_add(verdict, num_seeds, config)
            if not more:
                break
            num_seeds |= more
        arguments = (workdir, table, verdict, config, pool.call_all)
        draw = functools.partial(figures.draw_sde_validity, *arguments)
        finish(workdir, verdict, table, draw, config, setting)
    return verdict


def _seeds_to_add(verdict, num_seeds, config):
    """Twice the seeds for batch sizes that seeds can still settle, within `max_num_seeds`."""
    return {
        entry["batch_size"]: min(2 * num_seeds[entry["batch_size"]], config["max_num_seeds"])
        for entry in verdict["verdicts"]
        if entry["verdict"] == theory.INCONCLUSIVE
        and entry["ratios"]
        and num_seeds[entry["batch_size"]] < config["max_num_seeds"]
    }


def confidence_of_each_look(config):
    """Confidence of one look at the verdict, so that all looks together have 95 %.

    Seeds are doubled while a verdict is inconclusive; each doubling is another chance to err.

    Args:
        config: a validated config.

    Returns:
        A float.
    """
    doublings = math.ceil(math.log2(max(1, config["max_num_seeds"] / config["num_seeds"])))
    return 1 - (1 - theory.CONFIDENCE) / (1 + doublings)


def build_grid(config, num_train, num_seeds=None):
    """All runs of the study.

    Args:
        config: a validated config.
        num_train: n, number of training examples.
        num_seeds: dict from batch size to number of seeds. Defaults to that of the config.

    Returns:
        A list of `Run`.
    """
    grid = config["sde_validity"]
    return [
        make_run(config, num_train, batch_size, ell, seed)
        for batch_size in grid["batch_sizes"]
        for ell in grid["ells"]
        for seed in range((num_seeds or {}).get(batch_size, config["num_seeds"]))
    ]


def build_verdict(table, config, network=None):
    """What the table says: the dict of `verdict.json`.

    Args:
        table: list of dicts from `summarize_runs`.
        config: a validated config.
        network: dict of `grid.network_properties`, or `None` if they are not known.

    Returns:
        A dict: the verdict on the study (that on the batch size that fares worst), one verdict for
        each batch size under `verdicts`, and under `settings` each quantity over seeds.
    """
    settings, verdicts = [], []
    for batch_size in config["sde_validity"]["batch_sizes"]:
        cells = {
            ell: [r for r in table if r["batch_size"] == batch_size and r["ell"] == ell]
            for ell in config["sde_validity"]["ells"]
        }
        settings += [_summarize_cell(rows) for rows in cells.values()]
        verdicts.append(_judge_batch_size(cells, config))
    outcome = theory.worst(v["verdict"] for v in verdicts)
    worst = next(v for v in verdicts if v["verdict"] == outcome)
    return {
        "study": STUDY,
        "verdict": outcome,
        "closeness": config["closeness"],
        "confidence": confidence_of_each_look(config),
        "measured_closeness": worst["measured_closeness"],
        "necessary_condition": worst["necessary_condition"],
        "optimizer": config["optimizer"]["name"],
        "premises": theory_premises(config, network),
        "verdicts": verdicts,
        "settings": settings,
        "failed_runs": {r["name"]: r["message"] for r in table if r["status"] == runs.FAILED},
    }


def _summarize_cell(rows):
    summary = {name: rows[0][name] for name in ("batch_size", "learning_rate", "ell")}
    summary["num_seeds"] = len(column(rows, "seed"))
    if not summary["num_seeds"]:
        return summary
    for name in WINDOW_COLUMNS:
        target = "equilibrium_train_loss" if name == "train_loss" else name
        summary[target] = theory.mean_interval(column(rows, name))
    summary["noise_to_signal"] = theory.ratio_of_means(
        column(rows, "gradient_noise"), column(rows, "gradient_signal")
    )
    for name in END_COLUMNS:
        summary[name] = theory.mean_interval(column(rows, f"final_{name}"))
    return summary


def _judge_batch_size(cells, config):
    closeness = config["closeness"]
    sgd = [row for row in cells[1.0] if row["status"] == runs.DONE]
    head = {name: cells[1.0][0][name] for name in ("batch_size", "learning_rate")}
    verdict = _compare_with_limit(cells, sgd, config)
    condition = theory.sde_condition(
        column(sgd, "gradient_noise") or [math.nan],
        column(sgd, "gradient_signal") or [math.nan],
        closeness,
    )
    return {
        **head,
        "num_seeds": len(cells[1.0]),
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "measured_closeness": verdict.measured_closeness,
        "ratios": verdict.ratios,
        "necessary_condition": vars(condition),
    }


def _compare_with_limit(cells, sgd, config):
    def inconclusive(reason):
        nothing = theory.Interval(math.nan, 1.0, math.inf)
        return theory.Verdict(theory.INCONCLUSIVE, f"cannot be judged: {reason}", nothing, {})

    if config["sampling"] in theory.MODES_WITHOUT_SDE:
        return inconclusive(
            f"sampling={config['sampling']!r} has no SDE limit, so there is nothing to compare "
            "with. Use sampling='with_replacement'."
        )
    amplified = [ell for ell in cells if ell > 1]
    if len(amplified) < 2:
        return inconclusive(
            "at least two values of ell above 1 are needed to extrapolate to the SDE. Add some to "
            "sde_validity.ells."
        )
    small, large = amplified[-2:]
    pairs = [
        (a, b)
        for a, b in zip(cells[small], cells[large])
        if a["status"] == b["status"] == runs.DONE
    ]
    if len(sgd) < 2 or len(pairs) < 2:
        return inconclusive(
            "fewer than two seeds finished, so there are no intervals. Use num_seeds >= 2, or a "
            "learning rate at which runs do not diverge."
        )
    limit = {
        name: theory.extrapolate(
            small, [a[name] for a, _ in pairs], large, [b[name] for _, b in pairs]
        )
        for name in theory.QUANTITIES
    }
    return theory.judge(
        {name: np.array(column(sgd, name)) for name in theory.QUANTITIES},
        limit,
        config["closeness"],
        confidence_of_each_look(config),
    )


def format_table(verdict):
    """The table that the trainer prints at its end.

    Args:
        verdict: the dict of `verdict.json`.

    Returns:
        A string of several lines.
    """
    columns = ("gradient_noise", "gradient_signal", "noise_to_signal", "weight_norm")
    columns += ("train_loss", "test_accuracy")
    header = ("B", "ell", "seeds", "N", "G", "N/G", "R", "train loss", "test accuracy")
    lines = [header]
    for setting in records.to_json(verdict["settings"]):
        cells = [f"{setting['batch_size']}", f"{setting['ell']:g}", f"{setting['num_seeds']}"]
        lines.append((*cells, *(format_interval(setting.get(name)) for name in columns)))
    text = align(lines)
    for entry in verdict["verdicts"]:
        text.append("")
        seeds = f"{entry['num_seeds']} seeds"
        text.append(
            f"Batch size {entry['batch_size']} ({seeds}): {entry['verdict']}. SGD {entry['reason']}"
        )
    return "\n".join(text)
