"""Figures of the study: weak errors against ell, with lines of slope -1."""

import functools

import numpy as np

from keras_svag.report.drawing import COLORS, Drawing
from keras_svag.report.labels import label_of
from keras_svag.report.series import draw_bar, draw_curve, label_ends
from keras_svag.report.style import label_x, line_width, panels
from keras_svag.report.ticks import set_binary_scale, set_log_scale
from keras_svag.theory import Interval


def build_figures(details):
    """Returns a list of `Drawing`: errors on the linear problem, and of the network."""
    drawings = [
        Drawing(
            "linear",
            "Linear problem",
            "Absolute error of the moments of SVAG(ℓ) at the end, against those of the SDE. "
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
                "95 % intervals. Hollow: the interval contains zero; line: fit a / ℓ + b / ℓ²; "
                "gray: slope -1 through the first point.",
                functools.partial(draw_network_errors, details),
            )
        )
    return drawings


def draw_linear_errors(details):
    """Draws the errors of both moments: exact recursion and real train step."""
    rows = list(zip(details["exact"], details["simulated"]))
    figure, axes = panels(len(rows), aspect=0.7)
    for axis, (exact, simulated) in zip(axes, rows):
        ells = np.array(exact["ells"])
        _draw_slope(axis, ells, abs(exact["leading_error"]))
        draw_curve(axis, ells, np.abs(exact["errors"]), "exact recursion", COLORS[0], marker=".")
        errors = np.abs(simulated["errors"])
        for ell, error, half in zip(
            simulated["ells"], errors, 2 * np.array(simulated["standard_errors"])
        ):
            _draw_bar(axis, ell, error, half, "real train step", COLORS[5])
        draw_curve(
            axis, simulated["ells"], errors, "real train step", COLORS[5], ls="none", marker="o"
        )
        _finish(axis, exact["quantity"], ells)
    label_x(axes, "ℓ")
    label_ends(axes)
    return figure


def draw_network_errors(details):
    """Draws the errors of the network's observables."""
    figure, axes = panels(len(details["network"]), aspect=1.0)
    for axis, row in zip(axes, details["network"]):
        ells = np.array(row["ells"])
        errors = np.array([abs(error.mean) for error in row["errors"]])
        halves = np.array([(error.ci_high - error.ci_low) / 2 for error in row["errors"]])
        _draw_slope(axis, ells, errors[0] * ells[0])
        for ell, error, half in zip(ells, errors, halves):
            _draw_bar(axis, ell, error, half, "error", COLORS[0])
            face = COLORS[0] if error > half else "white"
            draw_curve(axis, [ell], [error], "error", COLORS[0], ls="none", marker="o", mfc=face)
        fine = np.geomspace(ells[0], ells[-1], 50)
        fitted = np.abs(row["first"].mean / fine + row["second"].mean / fine**2)
        axis.plot(fine, fitted, color=COLORS[0], lw=line_width(0.7))
        _finish(axis, label_of(row["quantity"]).split(" = ")[0], ells)
    label_x(axes, "ℓ")
    return figure


def _draw_slope(axis, ells, leading_error):
    axis.plot(ells, leading_error / ells, color="0.6", lw=line_width(0.7), zorder=1)


def _draw_bar(axis, ell, error, half, name, color):
    draw_bar(axis, ell, Interval(error, error - half, error + half), name, color)


def _finish(axis, quantity, ells):
    set_binary_scale(axis, ells)
    set_log_scale(axis)
    axis.set_ylabel(f"error of {quantity}")
