"""Pytest plugin: writes a line of JSON for each test that fails, its name and its message."""

import json
import os


def pytest_runtest_logreport(report):
    """Writes the outcome of a test that failed, with what its message begins with."""
    if report.failed:
        lines = str(report.longrepr).splitlines()
        _write(report.nodeid, [line for line in lines if line.startswith("E ")][:3])


def pytest_collectreport(report):
    """Writes what cannot be imported."""
    if report.failed:
        _write(report.nodeid, str(report.longrepr).splitlines()[-1:])


def _write(name, message):
    with open(os.environ["KERAS_OWN_FAILURES"], "a", encoding="utf-8") as file:
        file.write(json.dumps([name, message]) + "\n")
