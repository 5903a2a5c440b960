"""The study "how far does the linear scaling rule hold?": larger batches, eta in proportion.

Li, Malladi, Arora 2021 (arXiv 2102.12470), section 5: N and G of the base run alone bound the
factor kappa by which batch size and learning rate can be scaled together before training changes.
The base runs come first, and what they predict is on disk before any other run begins.

What is compared is what the theorem assumes. Its proof (`docs/theory_conditions.md`, 4.2) takes the
equilibrium identity `(2 lambda - eta lambda^2) R = eta (G + N)` at both batch sizes and uses
`R' <= C R`, `G' >= G/C` and `kappa N' >= N/C`: R and G as they are, and N times the batch size (or
the learning rate), since the rule keeps noise per time; N itself must fall as 1/kappa. So "holds"
means that R, B N and G, averaged over equilibrium, are within a factor C of those of the base run,
and no kappa beyond the bound can hold. Test accuracy is shown beside it; as a criterion, and R
alone, are choices of the config that the theorem says nothing about.
"""

import dataclasses
import functools
import math

from keras_svag import theory
from keras_svag.study import figures, records, runs
from keras_svag.study.config import (
    CLOSENESS,
    LINEAR_SCALING,
    TEST_ACCURACY,
    WEIGHT_NORM,
    validate_config,
)
from keras_svag.study.grid import (
    END_COLUMNS,
    WINDOW_COLUMNS,
    announce_cost,
    check_buildable,
    column,
    execute_stages,
    gather,
    load_dataset_of,
    make_run,
    network_properties,
    summarize_runs,
    theory_premises,
)
from keras_svag.study.optimizer import is_plain_sgd, scaled_weight_decay
from keras_svag.study.pool import RunPool
from keras_svag.study.shard import parse_shard
from keras_svag.study.text import align, format_interval
from keras_svag.study.workdir import begin, finish
from keras_svag.theory import (
    BASE,
    FAILS,
    FIXED_ORDER,
    HOLDS,
    INCONCLUSIVE,
    correct_noise,
    equilibrium_weight_norm,
    noise_and_signal_for_scaling,
)

STUDY = LINEAR_SCALING
OUTCOMES = {
    theory.VALID: HOLDS,
    theory.INVALID: FAILS,
    theory.INCONCLUSIVE: INCONCLUSIVE,
}
# What agrees where the rule holds; `scaled_noise` is B N.
COMPARED = ("weight_norm", "scaled_noise", "gradient_signal")
# Of the window that is averaged over.
FOUND = ("reached", "is_balanced", "drifts", "imbalance", "reason")
TITLES = {
    "scaled_noise": "B N",
    "gradient_signal": "G",
    "weight_norm": "R",
    "gradient_noise": "N",
    "noise_to_signal": "N/G",
    "equilibrium_train_loss": "train loss (window)",
    "train_loss": "train loss (end)",
    "test_accuracy": "test accuracy (end)",
}


def run_linear_scaling(config, workdir, command=None, show_progress=True, shard=None):
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
    load_dataset = functools.partial(load_dataset_of, config["dataset"])
    dataset = load_dataset()
    num_train = dataset.num_train
    grid = build_grid(config, num_train)
    base = grid[config["base_batch_size"]]
    others = [run for cell in grid.values() for run in cell if cell is not base]
    stages = [base, others]
    if shard:
        # All base runs are needed before any other run: each process does those that no other is
        # at, its own first.
        first = shard.select(base, num_train)
        rest = [run for run in base if run not in first]
        stages = [[*first, *rest], shard.select(others, num_train)]
    network = _check(config, dataset, grid)
    network = network_properties(network, dataset)
    workdir, setting = begin(workdir, STUDY, config, dataset, command)
    announce_cost([run for stage in stages for run in stage], num_train, workdir, show_progress)
    results = {}
    with RunPool(config, load_dataset, workdir, config["num_workers"]) as pool:
        executed = execute_stages(pool, stages, num_train, workdir, show_progress)
        for stage, finished in enumerate(executed):
            results |= finished
            if stage == 0:
                prediction = predict(measure(base, results, config, num_train, workdir), config)
                write_prediction(workdir, prediction)
        results = gather(pool, [*base, *others], results, workdir)
        if results is None:
            return None
        cells = [measure(cell, results, config, num_train, workdir) for cell in grid.values()]
        verdict = build_verdict(cells, prediction, config, network)
        table = [row for cell in cells for row in cell.rows]
        arguments = (workdir, table, verdict, config, pool.call_all)
        draw = functools.partial(figures.draw_linear_scaling, *arguments)
        finish(workdir, verdict, table, draw, config, setting, TITLES)
    return verdict


def build_grid(config, num_train):
    """All runs of the study.

    Args:
        config: a validated config.
        num_train: n, number of training examples.

    Returns:
        A dict from batch size, in increasing order and with the base's among them, to its list of
        `Run`.
    """
    sizes = {config["base_batch_size"], *config[STUDY]["batch_sizes"]}
    return {
        batch_size: [
            make_run(config, num_train, batch_size, seed=seed)
            for seed in range(config["num_seeds"])
        ]
        for batch_size in sorted(sizes)
    }


def _check(config, dataset, grid):
    """Raises what would be raised later, while nothing is written yet; returns a network."""
    if config["sampling"] == FIXED_ORDER:
        raise ValueError(
            "`sampling` must be random: in a fixed order there is no gradient noise to scale. "
            f"Received: sampling={config['sampling']!r}. Use sampling='with_replacement'."
        )
    network = check_buildable(config, dataset, [run for cell in grid.values() for run in cell])
    for batch_size in grid:
        correct_noise(1.0, batch_size, dataset.num_train, config["sampling"])
    return network


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs at one batch size, measured.

    Attributes:
        batch_size: B.
        learning_rate: eta.
        kappa: B over the base batch size.
        window: the `theory.Window` that was averaged over.
        rows: their rows of `results.csv`.
    """

    batch_size: int
    learning_rate: float
    kappa: float
    window: theory.Window
    rows: list

    def column(self, name):
        """Values of a column in the rows of finished runs."""
        return column(self.rows, name)

    @property
    def num_finished(self):
        """Number of runs that did not diverge."""
        return len(self.column("seed"))


def measure(cell, results, config, num_train, workdir):
    """Finds the equilibrium of the runs at one batch size and averages over it.

    Args:
        cell: list of `Run`.
        results: dict from run name to the dict of `runs.execute`.
        config: a validated config.
        num_train: n, number of training examples.
        workdir: folder of the study.

    Returns:
        A `Cell`. Its rows have, beside the columns of all studies, `kappa`, `scaled_noise` (B N,
        corrected for sampling so that batch sizes can be compared), and `bound_noise` and
        `bound_signal`, the N and G of the theorem.
    """
    run, base = cell[0], config["base_batch_size"]
    done = [run for run in cell if results[run.name]["status"] == runs.DONE]
    histories = {
        run.name: records.read_jsonl(runs.RunFolder(workdir, run.name).metrics) for run in done
    }
    window = theory.measure_window(
        list(histories.values()),
        run.total,
        config["equilibrium"],
        scaled_weight_decay(config, run.batch_size),
        config[STUDY]["phase"],
    )
    config = config | {"equilibrium": window.fractions}
    rows = summarize_runs(cell, results, config, num_train, workdir)
    sampled = (run.batch_size, num_train, config["sampling"])
    for row in rows:
        row["kappa"] = run.batch_size / base
        if row["status"] == runs.DONE:
            logged = theory.window_means(histories[row["name"]], run.total, window.fractions)
            noise, signal = logged["gradient_noise"], logged["gradient_signal"]
            row["scaled_noise"] = run.batch_size * correct_noise(noise, *sampled)
            row["bound_noise"], row["bound_signal"] = noise_and_signal_for_scaling(
                noise, signal, *sampled
            )
    return Cell(run.batch_size, run.learning_rate, run.batch_size / base, window, rows)


def predict(base, config):
    """What the runs at the base batch size say of the largest kappa.

    Args:
        base: their `Cell`.
        config: a validated config.

    Returns:
        The dict of `prediction.json`.
    """
    noise, signal = base.column("bound_noise"), base.column("bound_signal")
    nothing = theory.Interval(math.nan, -math.inf, math.inf)
    return {
        "study": STUDY,
        "closeness": config["closeness"],
        "base_batch_size": base.batch_size,
        "predicted_max_kappa": {
            form: theory.lsr_max_kappa(noise, signal, config["closeness"], form)
            if noise
            else nothing
            for form in (theory.TIGHT, theory.PAPER)
        },
        "noise_to_signal": theory.ratio_of_means(noise, signal) if noise else nothing,
        "window": base.window.fractions,
        "runs": base.column("name"),
    }


def write_prediction(workdir, prediction):
    """Writes `prediction.json`, or leaves it alone where it says the same already.

    Args:
        workdir: folder of the study.
        prediction: the dict of `predict`.
    """
    path = workdir / "prediction.json"
    if records.read_json(path) != records.to_json(prediction):
        records.write_json(path, prediction)


def build_verdict(cells, prediction, config, network=None):
    """What the runs say: the dict of `verdict.json`.

    Args:
        cells: list of `Cell` in order of batch size.
        prediction: the dict of `predict`.
        config: a validated config.
        network: dict of `grid.network_properties`, or `None` if they are not known.

    Returns:
        A dict.
    """
    base = next(cell for cell in cells if cell.kappa == 1)
    settings = [_summarize_cell(cell, config) | judge(cell, base, config) for cell in cells]
    observed = observed_max_kappa(settings)
    predicted = prediction["predicted_max_kappa"]
    return {
        "study": STUDY,
        "closeness": config["closeness"],
        "confidence": theory.CONFIDENCE,
        "criterion": config[STUDY]["criterion"],
        "tolerance": config[STUDY]["tolerance"],
        "base_batch_size": base.batch_size,
        "noise_to_signal": prediction["noise_to_signal"],
        "predicted_max_kappa": predicted,
        "observed_max_kappa": observed,
        "comparison": compare_with_bound(settings, observed, predicted[theory.TIGHT]),
        "premises": _premises(base, config, network),
        "settings": settings,
        "not_in_equilibrium": [
            cell.batch_size for cell in cells if cell.num_finished and not cell.window.reached
        ],
        "failed_runs": {
            row["name"]: row["message"]
            for cell in cells
            for row in cell.rows
            if row["status"] == runs.FAILED
        },
    }


def _premises(base, config, network):
    """What the theorem assumes, and whether it is so; `None` where that is not known."""
    return {
        **theory_premises(config, network),
        "loss that does not depend on the batch size": (network or {}).get("independent_of_batch"),
        # So does scale invariance show in the runs.
        "R changes by what N, G and weight decay add and take": base.window.is_balanced,
        "equilibrium of the base runs": base.window.reached,
    }


def _summarize_cell(cell, config):
    summary = {
        "kappa": cell.kappa,
        "batch_size": cell.batch_size,
        "learning_rate": cell.learning_rate,
        "num_seeds": cell.num_finished,
        "equilibrium": {
            "window": cell.window.fractions,
            **{name: getattr(cell.window, name) for name in FOUND},
            "identity": _identity(cell, config),
        },
    }
    if not cell.num_finished:
        return summary
    for name in (*WINDOW_COLUMNS, "scaled_noise"):
        target = "equilibrium_train_loss" if name == "train_loss" else name
        summary[target] = theory.mean_interval(cell.column(name))
    summary["noise_to_signal"] = theory.ratio_of_means(
        cell.column("gradient_noise"), cell.column("gradient_signal")
    )
    for name in END_COLUMNS:
        summary[name] = theory.mean_interval(cell.column(f"final_{name}"))
    return summary


def _identity(cell, config):
    """R over what N and G keep up against weight decay: 1 in equilibrium, if scale invariant."""
    if not is_plain_sgd(config):  # with momentum, or preconditioned, R is balanced otherwise
        return None
    if not cell.num_finished or not 0 < cell.learning_rate * config["weight_decay"] < 2:
        return None
    kept_up = [
        equilibrium_weight_norm(noise, signal, cell.learning_rate, config["weight_decay"])
        for noise, signal in zip(cell.column("bound_noise"), cell.column("bound_signal"))
    ]
    return theory.ratio_of_means(cell.column("weight_norm"), kept_up)


def judge(cell, base, config):
    """Whether training at one batch size is still what it is at the base batch size.

    "holds" if the 95 % intervals of all ratios that the criterion compares lie inside `[1/C, C]`,
    "fails" if one, corrected for their number, lies wholly outside; test accuracy holds if the
    interval of its loss lies below the tolerance, and fails if it lies above. Where every run
    diverged the rule fails; where some did, it is not said to hold.

    Args:
        cell: the `Cell` of the batch size.
        base: that of the base.
        config: a validated config.

    Returns:
        A dict: `outcome`, `reason`, `ratios` to the base of R, B N and G, and
        `test_accuracy_loss`, base minus this.
    """
    if cell is base:
        return _outcome(BASE, "the runs that all others are compared with.")
    diverged = len(cell.rows) - cell.num_finished
    if base.num_finished < 2:
        return _outcome(INCONCLUSIVE, "fewer than two runs at the base batch size finished.")
    if not cell.num_finished:
        return _outcome(FAILS, "every run diverged.")
    ratios = {
        name: theory.ratio_interval(cell.column(name), base.column(name)) for name in COMPARED
    }
    lost = theory.difference_interval(
        base.column("final_test_accuracy"), cell.column("final_test_accuracy")
    )
    outcome = _decide(cell, base, lost, config)
    reason = _reason(config[STUDY]["criterion"], ratios, lost)
    if cell.num_finished < 2:
        reason = "fewer than two runs finished, so there are no intervals; use num_seeds >= 2."
    elif diverged and outcome == HOLDS:
        outcome = INCONCLUSIVE
        reason = f"{diverged} of {len(cell.rows)} runs diverged; of the others, {reason}"
    return _outcome(outcome, reason, ratios, lost)


def _outcome(outcome, reason, ratios=None, lost=None):
    return {
        "outcome": outcome,
        "reason": reason,
        "ratios": ratios or {},
        "test_accuracy_loss": lost,
    }


def _decide(cell, base, lost, config):
    criterion, tolerance = config[STUDY]["criterion"], config[STUDY]["tolerance"]
    if criterion == TEST_ACCURACY:
        if lost.ci_high <= tolerance:
            return HOLDS
        return FAILS if lost.ci_low > tolerance else INCONCLUSIVE
    names = COMPARED if criterion == CLOSENESS else (WEIGHT_NORM,)
    samples = ({name: c.column(name) for name in names} for c in (cell, base))
    return OUTCOMES[theory.judge(*samples, config["closeness"]).verdict]


def _reason(criterion, ratios, lost):
    if criterion == TEST_ACCURACY:
        return f"test accuracy lower by {lost}."
    names = COMPARED if criterion == CLOSENESS else (WEIGHT_NORM,)
    return ", ".join(f"{TITLES[name]} times {ratios[name]}" for name in names) + "."


def observed_max_kappa(settings):
    """The largest kappa up to which the rule holds, and the smallest at which it fails.

    Args:
        settings: list of dicts with `kappa` and `outcome`, in order of kappa.

    Returns:
        A dict: `value`, the largest kappa such that every batch size of the sweep from the base up
        to it holds (1 if none does, `None` without base runs); `first_failure`, the smallest kappa
        above 1 that fails, or `None`; `inconclusive`, those above 1 that are neither.
    """
    above = [setting for setting in settings if setting["kappa"] > 1]
    has_base = any(s["kappa"] == 1 and s["num_seeds"] for s in settings)
    value = 1.0 if has_base else None
    for setting in above:
        if setting["outcome"] != HOLDS:
            break
        value = setting["kappa"]
    failures = [setting["kappa"] for setting in above if setting["outcome"] == FAILS]
    return {
        "value": value,
        "first_failure": min(failures, default=None),
        "inconclusive": [s["kappa"] for s in above if s["outcome"] == INCONCLUSIVE],
    }


def compare_with_bound(settings, observed, tight):
    """Whether what was observed lies below the tight bound, as the theorem says.

    Args:
        settings: as in `observed_max_kappa`.
        observed: what that returned.
        tight: `Interval` of the bound.

    Returns:
        A dict: `bound_holds` (False if some kappa beyond the bound's interval holds, `None` if only
        inside the interval, or without a bound), `ratio` of the observed kappa to the bound, and
        `reason`, in words.
    """
    if observed["value"] is None or not math.isfinite(tight.mean):
        reason = "There is no bound to compare with: G of the base runs may be zero."
        if observed["value"] is None:
            reason = "No run at the base batch size finished, so nothing is predicted."
        return {"bound_holds": None, "ratio": None, "reason": reason}
    largest = max((s["kappa"] for s in settings if s["outcome"] == HOLDS), default=1.0)
    largest = max(largest, observed["value"])
    ratio = observed["value"] / tight.mean
    if largest <= tight.ci_low:
        holds, words = True, "lies below the tight bound"
    elif largest <= tight.ci_high:
        holds, words = None, "lies inside the interval of the tight bound"
    else:
        holds, words = False, "does not lie below the tight bound"
    reason = f"The observed kappa {observed['value']:g} {words} {tight}: {ratio:.2g} of it."
    if holds is False:
        reason += f" At kappa {largest:g} training is as at the base: a premise must be broken."
    if observed["first_failure"] is None:
        reason += " No batch size above the base was seen to fail; larger ones would show the end."
    return {"bound_holds": holds, "ratio": ratio, "reason": reason}


def format_scaling(verdict):
    """The table that the trainer prints at its end.

    Args:
        verdict: the dict of `verdict.json`.

    Returns:
        A string of several lines.
    """
    verdict = records.to_json(verdict)
    columns = ("scaled_noise", "gradient_signal", "noise_to_signal", "weight_norm")
    columns += ("train_loss", "test_accuracy")
    header = ("B", "kappa", "seeds", "B N", "G", "N/G", "R", "train loss", "test accuracy")
    lines = [(*header, "identity", "outcome")]
    for setting in verdict["settings"]:
        cells = (f"{setting['batch_size']}", f"{setting['kappa']:g}", f"{setting['num_seeds']}")
        cells += tuple(format_interval(setting.get(name)) for name in columns)
        identity = format_interval(setting["equilibrium"]["identity"])
        lines.append((*cells, identity, setting["outcome"]))
    text = [*align(lines), ""]
    for form, bound in verdict["predicted_max_kappa"].items():
        text.append(f"Predicted largest kappa ({form}): {format_interval(bound)}")
    observed = verdict["observed_max_kappa"]
    text.append(f"Observed: holds up to {_kappa(observed['value'])}")
    text[-1] += f", first fails at {_kappa(observed['first_failure'])}"
    text.append(verdict["comparison"]["reason"])
    if verdict["not_in_equilibrium"]:
        sizes = ", ".join(map(str, verdict["not_in_equilibrium"]))
        text.append(f"Equilibrium not reached at B = {sizes}: means over the config's window.")
    return "\n".join(text)


def _kappa(value):
    return "-" if value is None else f"{value:g}"
