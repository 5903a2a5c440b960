"""Figures of the study: weak errors against ell, with lines of slope -1."""

import functools

import numpy as np
from matplotlib.figure import Figure

from keras_svag.report.drawing import COLORS, Drawing


def build_figures(details):
    """Returns a list of `Drawing`: errors on the linear problem, and of the network."""
    drawings = [
        Drawing(
            "linear",
            "Linear problem",
            "Absolute error of the moments of SVAG(ell) at the end, against those of the SDE. "
            "Line: exact recursion; dots with bars of two standard errors: real train step; gray: "
            "slope -1.",
            functools.partial(draw_linear_errors, details),
        )
    ]
    if details["network"]:
        drawings.append(
            Drawing(
                "network",
                "Network",
                "Absolute error of expectations against Euler-Maruyama at the end of the run, with "
                "95 % intervals. Hollow: the interval contains zero; line: fit a / ell + b / ell²; "
                "gray: slope -1 through the first point.",
                functools.partial(draw_network_errors, details),
            )
        )
    return drawings


def draw_linear_errors(details):
    """Draws the errors of both moments: exact recursion and real train step."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    for axis, exact, simulated in zip(
        figure.subplots(1, 2), details["exact"], details["simulated"]
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


def draw_network_errors(details):
    """Draws the errors of the network's observables."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    for axis, row in zip(figure.subplots(1, len(details["network"])), details["network"]):
        ells = np.array(row["ells"])
        errors = np.array([abs(error.mean) for error in row["errors"]])
        halves = np.array([(error.ci_high - error.ci_low) / 2 for error in row["errors"]])
        for ell, error, half in zip(ells, errors, halves):
            is_significant = error > half
            axis.errorbar(
                ell,
                error,
                half,
                color=COLORS[0],
                fmt="o",
                ms=4,
                mfc=None if is_significant else "none",
            )
        fine = np.geomspace(ells[0], ells[-1], 50)
        fitted = np.abs(row["first"].mean / fine + row["second"].mean / fine**2)
        axis.plot(fine, fitted, color=COLORS[0], lw=1)
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
