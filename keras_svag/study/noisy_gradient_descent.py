"""The study "is the shape of the noise needed?": SGD against Gaussian noise of its covariance.

Li, Malladi, Arora 2021 (arXiv 2102.12470): SGD is compared with noisy gradient descent (NGD), the
full gradient with Gaussian noise of the same covariance. For l > 1 three more methods share mean
and covariance of their moves and differ in the shape of the noise alone: SVAG(l), Gaussian noise
with l steps per unit of time (Euler-Maruyama), and SGD at a batch size and learning rate l times
smaller.
"""

import functools
import itertools

from keras_svag import theory
from keras_svag.study import figures, runs
from keras_svag.study.config import effective_steps, validate_config
from keras_svag.study.grid import (
    announce_cost,
    check_buildable,
    column,
    execute_grid,
    load_dataset_of,
    summarize_runs,
)
from keras_svag.study.optimizer import require_plain_sgd, scaled_learning_rate
from keras_svag.study.pool import RunPool
from keras_svag.study.shard import parse_shard
from keras_svag.study.text import align
from keras_svag.study.workdir import begin, finish

STUDY = "noisy_gradient_descent"
# Means over the window, and values at the end.
QUANTITIES = ("weight_norm", "train_loss", "test_loss", "final_train_loss", "final_test_loss")
TITLES = {
    "weight_norm": "R (window)",
    "train_loss": "train loss (window)",
    "test_loss": "test loss (window)",
    "final_train_loss": "train loss (end)",
    "final_test_loss": "test loss (end)",
    "test_accuracy": "test accuracy (end)",
}


def run_noisy_gradient_descent(config, workdir, command=None, show_progress=True, shard=None):
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
    config = validate_config(config, STUDY)
    require_plain_sgd(config, STUDY)
    load_dataset = functools.partial(load_dataset_of, config["dataset"])
    dataset = load_dataset()
    num_train = dataset.num_train
    arms = build_arms(config, num_train)
    grid = [run for arm in arms for run in arm["runs"]]
    unique = list({run.name: run for run in grid}.values())
    check_buildable(config, dataset, unique)
    workdir, setting = begin(workdir, STUDY, config, dataset, command)
    announce_cost(unique, num_train, workdir, show_progress, shard)
    with RunPool(config, load_dataset, workdir, config["num_workers"]) as pool:
        results = execute_grid(pool, unique, num_train, workdir, show_progress, shard)
        if results is None:
            return None
        table = summarize_runs(unique, results, config, num_train, workdir)
        by_name = {row["name"]: row for row in table}
        for arm in arms:
            arm["rows"] = [by_name[run.name] for run in arm["runs"]]
        verdict = build_verdict(arms, config)
        draw = functools.partial(figures.draw_arms, workdir, arms, pool.call_all)
        finish(workdir, verdict, table, draw, config, setting, TITLES)
    return verdict


def build_arms(config, num_train):
    """The methods to compare, each with its runs.

    Args:
        config: a validated config.
        num_train: n, number of training examples.

    Returns:
        A list of dicts with `batch_size` and `learning_rate` (of the SGD run that is modelled),
        `noise_steps` (steps per effective step), `method` (its name) and `runs`.
    """
    arms = []
    grid = config[STUDY]
    for batch_size in grid["batch_sizes"]:
        total = effective_steps(config, num_train, batch_size)
        for m in grid["noise_steps"]:
            methods = {
                "SGD" if m == 1 else f"SVAG({m:g})": (batch_size, m, total, runs.SVAG),
                "NGD" if m == 1 else f"Gaussian({m:g})": (batch_size, m, total, runs.GAUSSIAN),
            }
            if m > 1 and batch_size % m == 0:
                small = int(batch_size // m)
                methods[f"SGD(B/{m:g})"] = (small, 1.0, round(total * m), runs.SVAG)
            for name, (size, ell, length, method) in methods.items():
                rate = scaled_learning_rate(config, size)
                arms.append(
                    {
                        "batch_size": batch_size,
                        "learning_rate": scaled_learning_rate(config, batch_size),
                        "noise_steps": m,
                        "method": name,
                        "runs": [
                            runs.Run(size, rate, float(ell), seed, length, method)
                            for seed in range(grid["num_seeds"])
                        ],
                    }
                )
    return arms


def build_verdict(arms, config):
    """What the runs say: the dict of `verdict.json`.

    Args:
        arms: what `build_arms` gave, with `rows` of the table in each.
        config: a validated config.

    Returns:
        A dict: `verdict` on SGD against NGD (`"equivalent"`, `"different"` or `"inconclusive"`,
        the last batch size's that is not equivalent), one for each batch size under `verdicts`,
        every comparison under `comparisons`, every method under `settings`.
    """
    grid = config[STUDY]
    comparisons, verdicts = [], []
    for batch_size, margin in zip(grid["batch_sizes"], grid["margins"]):
        of_size = [arm for arm in arms if arm["batch_size"] == batch_size]
        pairs = [
            (a, b)
            for a, b in itertools.combinations(of_size, 2)
            # Same mean and covariance; or SGD itself against what approaches its SDE.
            if a["noise_steps"] == b["noise_steps"] or a["method"] == "SGD"
        ]
        found = [row for a, b in pairs for row in _compare_arms(a, b, margin)]
        comparisons += found
        verdicts.append(_judge(of_size[0], found))
    others = [v for v in verdicts if v["verdict"] != theory.EQUIVALENT]
    return {
        "study": STUDY,
        "verdict": (others or verdicts)[-1]["verdict"],
        "confidence": theory.EQUIVALENCE_CONFIDENCE,
        "verdicts": verdicts,
        "comparisons": comparisons,
        "settings": [_summarize_arm(arm) for arm in arms],
        "failed_runs": {
            row["name"]: row["message"]
            for arm in arms
            for row in arm["rows"]
            if row["status"] == runs.FAILED
        },
    }


def _compare_arms(a, b, margin):
    # Seed by seed: the methods share initial weights and the fixed last layer.
    pairs = [
        (x, y) for x, y in zip(a["rows"], b["rows"]) if x["status"] == y["status"] == runs.DONE
    ]
    for quantity in QUANTITIES:
        first, second = ([pair[i][quantity] for pair in pairs] for i in (0, 1))
        yield {
            "batch_size": a["batch_size"],
            "first": a["method"],
            "second": b["method"],
            "quantity": quantity,
            "num_seeds": len(pairs),
            **vars(theory.compare(first, second, margin, paired=True)),
        }


def _judge(sgd, comparisons):
    """Verdict on SGD against NGD at one batch size."""
    rows = [row for row in comparisons if (row["first"], row["second"]) == ("SGD", "NGD")]
    outcomes = {row["outcome"] for row in rows}
    listed = ", ".join(f"{TITLES[row['quantity']]} ratio {row['ratio'].mean:.3g}" for row in rows)
    if theory.DIFFERENT in outcomes:
        verdict, word = theory.DIFFERENT, "different"
    elif outcomes == {theory.EQUIVALENT}:
        verdict, word = theory.EQUIVALENT, "equivalent"
    else:
        verdict, word = theory.INCONCLUSIVE, "neither told apart nor shown to be equivalent"
    return {
        "batch_size": sgd["batch_size"],
        "learning_rate": sgd["learning_rate"],
        "verdict": verdict,
        "reason": f"{word} ({listed}).",
    }


def _summarize_arm(arm):
    rows = arm["rows"]
    summary = {name: arm[name] for name in ("batch_size", "learning_rate", "method")}
    summary["num_seeds"] = len(column(rows, "seed"))
    if summary["num_seeds"]:
        for name in QUANTITIES:
            summary[name] = theory.mean_interval(column(rows, name))
        summary["test_accuracy"] = theory.mean_interval(column(rows, "final_test_accuracy"))
    return summary


def format_comparisons(verdict):
    """The table that the trainer prints at its end.

    Args:
        verdict: the dict of `verdict.json`.

    Returns:
        A string of several lines.
    """
    header = ("B", "first", "second", "quantity", "ratio", "90 % interval", "outcome", "power")
    lines = [header]
    for row in verdict["comparisons"]:
        ratio = row["ratio"]
        lines.append(
            (
                f"{row['batch_size']}",
                row["first"],
                row["second"],
                row["quantity"],
                f"{ratio.mean:.3f}",
                f"{ratio.ci_low:.3f} to {ratio.ci_high:.3f}",
                row["outcome"],
                f"{row['power']:.2f}",
            )
        )
    text = align(lines, left=True)
    for entry in verdict["verdicts"]:
        text.append("")
        text.append(f"Batch size {entry['batch_size']}: SGD and NGD are {entry['reason']}")
    return "\n".join(text)
