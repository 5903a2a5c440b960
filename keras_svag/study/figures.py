"""Figures of a study, in one style: effective steps on the axis, colours safe for colour-blind."""

import functools
import io
import math
import pathlib

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_svag import theory
from keras_svag.study import records, runs

STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 110,
    "font.size": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}
SGD_COLOR = "#d55e00"
# Okabe and Ito's colours, for lines that are not an ordered family.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
MARKERS = "osD^vP"

CURVES = (
    ("test_accuracy", "test accuracy", "linear"),
    ("train_loss", "train loss", "log"),
    ("weight_norm", "R = |x|²", "log"),
    ("gradient_noise", "gradient noise N", "log"),
    ("gradient_signal", "gradient signal G", "log"),
    ("noise_to_signal", "N / G", "log"),
)
LIMITS = (
    ("weight_norm", "R = |x|²"),
    ("gradient_noise", "learning rate × N"),
    ("gradient_signal", "gradient signal G"),
    ("train_loss", "train loss"),
)


def in_turn(calls):
    """Calls functions without arguments one after the other."""
    for call in calls:
        call()


def draw_sde_validity(workdir, table, verdict, config, call_all=in_turn):
    """Draws and saves the figures of the SDE-validity study.

    Args:
        workdir: folder of the study; figures go to its `figures/`.
        table: rows of `results.csv`.
        verdict: the dict of `verdict.json`.
        config: a validated config.
        call_all: function that calls all of a list of functions without arguments, such as
            `RunPool.call_all`: each draws one figure. Defaults to `in_turn`.

    Returns:
        A list of dicts with `file`, `title` and `caption`, in the order of the report.
    """
    workdir = pathlib.Path(workdir)
    file = "figures/convergence.png"
    calls = [functools.partial(_save, workdir / file, _draw_convergence, table, config)]
    drawn = [
        {
            "file": file,
            "title": "Where amplification leads",
            "caption": (
                "Means over the equilibrium window against 1/ell: SGD at the right, its SDE at "
                "the left (hollow: extrapolated from the two largest ell). Flat lines mean "
                "that the SDE models SGD; the band is a factor C around the limit. "
                "All batch sizes have the same SDE, so their limits should meet. "
                "Bars: 95 % t intervals over seeds."
            ),
        }
    ]
    for entry in verdict["verdicts"]:
        batch_size = entry["batch_size"]
        file = f"figures/curves_b{batch_size}.png"
        arguments = (workdir, table, batch_size, config)
        calls.append(functools.partial(_save, workdir / file, _draw_curves, *arguments))
        drawn.append(
            {
                "file": file,
                "title": f"Curves at batch size {batch_size}: {entry['verdict']}",
                "caption": (
                    "Training against effective steps (steps / ell), mean over seeds; bands "
                    "span the seeds. ell = 1 is SGD. Curves that lie on each other mean that "
                    "the SDE models SGD. Grey: the window over which N, G and R are averaged."
                ),
            }
        )
    call_all(calls)
    return drawn


def _save(path, draw, *arguments):
    """Saves the figure that `draw(*arguments)` gives."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        # No date or version inside, so that the same data gives the same file.
        draw(*arguments).savefig(buffer, format="png", metadata={"Software": None})
    with records.atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _ell_color(ell, ells):
    if ell == 1:
        return SGD_COLOR
    others = [e for e in ells if e != 1]
    position = others.index(ell) / max(1, len(others) - 1)
    return matplotlib.colormaps["viridis"](0.75 - 0.65 * position)


def _draw_curves(workdir, table, batch_size, config):
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True)
    rows = [r for r in table if r["batch_size"] == batch_size and r["status"] == runs.DONE]
    ells = sorted({r["ell"] for r in rows})
    for axis, (column, label, scale) in zip(axes.flat, CURVES):
        for ell in ells:
            steps, values = _load_curves(workdir, [r for r in rows if r["ell"] == ell], column)
            if scale == "log":
                values = np.where(values > 0, values, np.nan)
            mean = _mean_ignoring_gaps(values)
            color = _ell_color(ell, ells)
            name = "ell = 1 (SGD)" if ell == 1 else f"ell = {ell:g}"
            axis.plot(steps, mean, color=color, label=name, lw=2 if ell == 1 else 1.4)
            low, high = np.fmin.reduce(values), np.fmax.reduce(values)
            axis.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
        if scale == "log":
            _set_log_scale(axis)
        axis.set_title(label, loc="left")
        if rows:
            window = np.array(config["equilibrium"]) * steps[-1]
            axis.axvspan(*window, color="0.5", alpha=0.08, lw=0)
    for axis in axes[-1]:
        axis.set_xlabel("effective steps (steps / ell)")
    if rows:
        axes[0, 0].legend(loc="lower right")
    figure.suptitle(f"batch size {batch_size}, learning rate {_rate(table, batch_size):g}")
    return figure


def _set_log_scale(axis):
    """Returns whether the axis could be made logarithmic: only if it has a positive value."""
    possible = math.isfinite(axis.dataLim.minposy)
    if possible:
        axis.set_yscale("log")
    return possible


def _rate(table, batch_size):
    return next(r["learning_rate"] for r in table if r["batch_size"] == batch_size)


def _load_curves(workdir, rows, column, axis="effective_step"):
    curves, steps = [], []
    for row in rows:
        records_of_run = records.read_jsonl(runs.RunFolder(workdir, row["name"]).metrics)
        steps = [r[axis] for r in records_of_run]
        curves.append([math.nan if r[column] is None else r[column] for r in records_of_run])
    return np.array(steps), np.array(curves, float)


def _mean_ignoring_gaps(values):
    counts = np.sum(np.isfinite(values), axis=0)
    sums = np.nansum(values, axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _draw_convergence(table, config):
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots(1, len(LIMITS))
    batch_sizes = config["sde_validity"]["batch_sizes"]
    for axis, (column, label) in zip(axes, LIMITS):
        for i, batch_size in enumerate(batch_sizes):
            _draw_limit(axis, table, batch_size, column, config, COLORS[i % 6], MARKERS[i % 6])
        _set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("1 / ell")
        axis.set_xlim(-0.08, 1.05)
        axis.set_xticks([0, 0.25, 0.5, 1], ["SDE", "1/4", "1/2", "SGD"])
    if any(row["status"] == runs.DONE for row in table):
        axes[0].legend(loc="best")
    return figure


def _draw_limit(axis, table, batch_size, column, config, color, marker):
    done = [r for r in table if r["batch_size"] == batch_size and r["status"] == runs.DONE]
    factor = _rate(table, batch_size) if column == "gradient_noise" else 1.0
    values = {
        ell: {r["seed"]: factor * r[column] for r in done if r["ell"] == ell}
        for ell in config["sde_validity"]["ells"]
    }
    values = {ell: by_seed for ell, by_seed in values.items() if by_seed}
    if not values:
        return
    intervals = [theory.mean_interval(list(v.values())) for v in values.values()]
    inverse = [1 / ell for ell in values]
    axis.plot(
        inverse,
        [i.mean for i in intervals],
        color=color,
        marker=marker,
        ms=4,
        label=f"B = {batch_size}",
    )
    for x, interval in zip(inverse, intervals):
        if math.isfinite(interval.ci_low):
            axis.plot([x, x], [interval.ci_low, interval.ci_high], color=color, lw=1)
    amplified = [ell for ell in values if ell > 1][-2:]
    if len(amplified) == 2:
        small, large = amplified
        seeds = sorted(set(values[small]) & set(values[large]))
        if not seeds:
            return
        limit = theory.mean_interval(
            theory.extrapolate(
                small, [values[small][s] for s in seeds], large, [values[large][s] for s in seeds]
            )
        )
        if limit.mean <= 0:
            return
        axis.plot([inverse[-1], 0], [intervals[-1].mean, limit.mean], color=color, ls=":", lw=1)
        axis.plot([0], [limit.mean], color=color, marker=marker, ms=6, mfc="none", ls="none")
        if math.isfinite(limit.ci_low) and limit.ci_low > 0:
            axis.plot([0, 0], [limit.ci_low, limit.ci_high], color=color, lw=1)
        if column in theory.QUANTITIES:
            c = config["closeness"]
            axis.axhspan(limit.mean / c, limit.mean * c, color=color, alpha=0.08, lw=0)


ARM_CURVES = (
    ("test_accuracy", "test accuracy", "linear"),
    ("train_loss", "train loss", "log"),
    ("weight_norm", "R = |x|²", "log"),
)


def draw_arms(workdir, arms, call_all=in_turn):
    """Draws the curves of methods that are compared, a figure for each batch size.

    Args:
        workdir: folder of the study; figures go to its `figures/`.
        arms: list of dicts with `batch_size`, `method`, `noise_steps` and `rows` of the table.
        call_all: see `draw_sde_validity`. Defaults to `in_turn`.

    Returns:
        A list of dicts with `file`, `title` and `caption`.
    """
    calls, drawn = [], []
    for batch_size in dict.fromkeys(arm["batch_size"] for arm in arms):
        chosen = [arm for arm in arms if arm["batch_size"] == batch_size]
        file = f"figures/methods_b{batch_size}.png"
        path = pathlib.Path(workdir) / file
        calls.append(functools.partial(_save, path, _draw_methods, workdir, chosen))
        drawn.append(
            {
                "file": file,
                "title": f"Methods at batch size {batch_size}",
                "caption": (
                    "Training against continuous time (sum of learning rate / steps per unit "
                    "of time), mean over seeds. Solid: mini-batch noise; dashed: Gaussian "
                    "noise; dotted: smaller batches. One colour for methods whose moves have "
                    "the same mean and covariance."
                ),
            }
        )
    call_all(calls)
    return drawn


def _draw_methods(workdir, arms):
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, len(ARM_CURVES))
    colors = dict(zip(dict.fromkeys(arm["noise_steps"] for arm in arms), (SGD_COLOR, *COLORS)))
    for axis, (name, label, scale) in zip(axes, ARM_CURVES):
        for arm in arms:
            done = [row for row in arm["rows"] if row["status"] == runs.DONE]
            if not done:
                continue
            times, values = _load_curves(workdir, done, name, axis="time")
            gaussian = arm["method"] == "NGD" or arm["method"].startswith("Gaussian")
            style = "--" if gaussian else ":" if "/" in arm["method"] else "-"
            color = colors[arm["noise_steps"]]
            mean = _mean_ignoring_gaps(values)
            axis.plot(times, mean, style, color=color, label=arm["method"], lw=1.4)
        axis.set_yscale(scale)
        axis.set_title(label, loc="left")
        axis.set_xlabel("time (sum of learning rates)")
    axes[0].legend(loc="lower right")
    return figure


def draw_weak_convergence(workdir, verdict):
    """Draws weak errors against l, log-log, with lines of slope -1.

    Args:
        workdir: folder of the study; figures go to its `figures/`.
        verdict: the dict of `verdict.json`.

    Returns:
        A list of dicts with `file`, `title` and `caption`.
    """
    drawn = []
    file = "figures/linear.png"
    _save(pathlib.Path(workdir) / file, _draw_linear_errors, verdict)
    caption = (
        "Absolute error of the moments of SVAG(l) at the horizon against those of the SDE. "
        "Lines: exact recursion; dots with bars (2 standard errors): the real train step; "
        "grey: slope -1."
    )
    drawn.append({"file": file, "title": "Linear problem", "caption": caption})
    if verdict["network"]:
        file = "figures/network.png"
        _save(pathlib.Path(workdir) / file, _draw_network_errors, verdict)
        caption = (
            "Absolute error of expectations at the end of the run against Euler-Maruyama, with "
            "95 % intervals; hollow: not resolved from zero; grey: slope -1 through the first."
        )
        drawn.append({"file": file, "title": "Network on digits", "caption": caption})
    return drawn


def _draw_linear_errors(verdict):
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axis, exact, simulated in zip(
        figure.subplots(1, 2), verdict["exact"], verdict["simulated"]
    ):
        ells = np.array(exact["ells"])
        axis.plot(ells, np.abs(exact["errors"]), color=COLORS[0], marker=".", label="exact")
        axis.plot(ells, abs(exact["leading_error"]) / ells, color="0.6", lw=1, label="slope -1")
        errors = np.abs(simulated["errors"])
        bars = 2 * np.array(simulated["standard_errors"])
        axis.errorbar(
            simulated["ells"], errors, bars, color=COLORS[1], fmt="o", ms=4, label="train step"
        )
        _finish_log_log(axis, exact["quantity"])
    figure.axes[0].legend()
    return figure


def _draw_network_errors(verdict):
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axis, row in zip(figure.subplots(1, len(verdict["network"])), verdict["network"]):
        ells = np.array(row["ells"])
        errors = np.array([abs(error.mean) for error in row["errors"]])
        halves = np.array([(error.ci_high - error.ci_low) / 2 for error in row["errors"]])
        for ell, error, half in zip(ells, errors, halves):
            resolved = ell in row["resolved_ells"]
            axis.errorbar(
                ell, error, half, color=COLORS[0], fmt="o", ms=4, mfc=None if resolved else "none"
            )
        axis.plot(ells, errors[0] * ells[0] / ells, color="0.6", lw=1)
        _finish_log_log(axis, row["quantity"].replace("_", " "))
    return figure


def _finish_log_log(axis, title):
    axis.set_xscale("log", base=2)
    # Bars that reach below zero go down to the axis.
    axis.set_yscale("log", nonpositive="clip")
    axis.set_title(title, loc="left")
    axis.set_xlabel("ell")
    axis.set_ylabel("weak error")


SCALING = (
    ("scaled_noise", "B N (batch size × gradient noise)"),
    ("gradient_signal", "gradient signal G"),
    ("weight_norm", "R = |x|²"),
    ("test_accuracy", "test accuracy (end)"),
)
# How a batch size that holds, fails, or is not decided is drawn.
OUTCOME_STYLES = {
    "base": {"marker": "D", "mfc": SGD_COLOR, "mec": SGD_COLOR},
    "holds": {"marker": "o", "mfc": COLORS[0], "mec": COLORS[0]},
    "inconclusive": {"marker": "o", "mfc": "white", "mec": COLORS[0]},
    "fails": {"marker": "x", "mfc": COLORS[0], "mec": COLORS[0], "mew": 2},
}
SCALING_CURVES = (
    ("weight_norm", "R = |x|²", "log"),
    ("train_loss", "train loss", "log"),
    ("test_accuracy", "test accuracy", "linear"),
)


def draw_linear_scaling(workdir, table, verdict, config, call_all=in_turn):
    """Draws and saves the figures of the linear-scaling study.

    Args:
        workdir: folder of the study; figures go to its `figures/`.
        table: rows of `results.csv`.
        verdict: the dict of `verdict.json`.
        config: a validated config.
        call_all: see `draw_sde_validity`. Defaults to `in_turn`.

    Returns:
        A list of dicts with `file`, `title` and `caption`, in the order of the report.
    """
    folder = pathlib.Path(workdir) / "figures"
    curves = (_draw_scaling_curves, workdir, table, config)
    call_all(
        [
            functools.partial(_save, folder / "scaling.png", _draw_scaling, verdict),
            functools.partial(_save, folder / "scaling_curves.png", *curves),
        ]
    )
    tolerance = f"{verdict['tolerance']:g}"
    return [
        {
            "file": "figures/scaling.png",
            "title": "Where the rule holds and where training leaves it",
            "caption": (
                "Means over equilibrium against kappa, the factor on the batch size; the learning "
                "rate is scaled along. Diamond: the base runs, their level the grey line; grey "
                "band: a factor C around it (test accuracy: lower by up to "
                f"{tolerance}). Discs hold, circles are not decided, crosses fail. Vertical lines: "
                "the largest kappa predicted from the base runs alone, and the largest up to "
                "which the rule was seen to hold. Bars: 95 % t intervals over seeds."
            ),
        },
        {
            "file": "figures/scaling_curves.png",
            "title": "Training against examples seen",
            "caption": (
                "Mean over seeds against examples seen (effective steps × batch size), on which "
                "runs lie on each other where the rule holds; the base in orange, larger batches "
                "darker."
            ),
        },
    ]


def _draw_scaling(verdict):
    figure = Figure(figsize=(11, 6), layout="constrained")
    settings = verdict["settings"]
    lines = _kappa_lines(verdict)
    for axis, (name, label) in zip(figure.subplots(2, 2).flat, SCALING):
        for setting in settings:
            interval = setting.get(name)
            if interval is not None and interval.mean > 0:
                _draw_setting(axis, setting, interval)
        _draw_level(axis, settings, name, verdict)
        for kappa, text, style in lines:
            axis.axvline(kappa, label=text, lw=1.4, **style)
        axis.set_xscale("log", base=2)
        kappas = [setting["kappa"] for setting in settings]
        axis.set_xticks(kappas, [f"{kappa:g}" for kappa in kappas])
        axis.minorticks_off()
        if name != "test_accuracy":
            _set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("kappa (batch size over the base's)")
    for outcome in dict.fromkeys(setting["outcome"] for setting in settings):
        figure.axes[0].plot([], [], ls="none", label=outcome, **OUTCOME_STYLES[outcome])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _set_plain_log_scale(axis):
    """A logarithmic axis of few decades, with numbers written out."""
    if _set_log_scale(axis):
        axis.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())


def _kappa_lines(verdict):
    """Vertical lines: position, label, style. Those without a finite position are left out."""
    predicted, observed = verdict["predicted_max_kappa"], verdict["observed_max_kappa"]["value"]
    found = [
        (predicted["tight"].mean, "predicted (tight)", {"color": COLORS[3], "ls": "--"}),
        (predicted["paper"].mean, "predicted (paper's form)", {"color": COLORS[1], "ls": ":"}),
        (observed, "observed: holds up to", {"color": COLORS[2], "ls": "-"}),
    ]
    return [
        (kappa, f"{text} {kappa:.3g}", style)
        for kappa, text, style in found
        if kappa is not None and math.isfinite(kappa)
    ]


def _draw_setting(axis, setting, interval):
    style = OUTCOME_STYLES[setting["outcome"]]
    kappa, color = setting["kappa"], style["mec"]
    if math.isfinite(interval.ci_low):
        axis.plot([kappa, kappa], [interval.ci_low, interval.ci_high], color=color, lw=1)
    axis.plot([kappa], [interval.mean], ls="none", ms=6, zorder=3, **style)


def _draw_level(axis, settings, name, verdict):
    base = next(setting for setting in settings if setting["kappa"] == 1).get(name)
    if base is None or base.mean <= 0:
        return
    if name == "test_accuracy":
        low, high = base.mean - verdict["tolerance"], base.mean
    else:
        low, high = base.mean / verdict["closeness"], base.mean * verdict["closeness"]
    axis.axhline(base.mean, color="0.4", lw=1)
    axis.axhspan(low, high, color="0.5", alpha=0.12, lw=0)


def _draw_scaling_curves(workdir, table, config):
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    done = [row for row in table if row["status"] == runs.DONE]
    sizes = sorted({row["batch_size"] for row in done})
    others = [size for size in sizes if size != config["base_batch_size"]]
    for axis, (column, label, scale) in zip(figure.subplots(1, 3), SCALING_CURVES):
        for size in sizes:
            rows = [row for row in done if row["batch_size"] == size]
            steps, values = _load_curves(workdir, rows, column)
            is_base = size == config["base_batch_size"]
            axis.plot(
                steps * size / 1000,
                _mean_ignoring_gaps(values),
                color=SGD_COLOR if is_base else _ordered_color(size, others),
                label=f"B = {size}",
                lw=2 if is_base else 1.2,
                zorder=3 if is_base else 2,
            )
        if scale == "log":
            _set_plain_log_scale(axis)
        axis.set_title(label, loc="left")
        axis.set_xlabel("effective steps × batch size / 1000")
    if done:
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _ordered_color(value, values):
    position = values.index(value) / max(1, len(values) - 1)
    return matplotlib.colormaps["viridis"](0.85 - 0.75 * position)
