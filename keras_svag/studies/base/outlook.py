"""Outlook of a study while it trains: provisional verdicts, and which further runs are likely."""

import pathlib
import time
import warnings

from keras_svag.engine.files import results
from keras_svag.engine.state import RunFolder

# Judging takes at most about this part of the time.
MAX_SHARE = 0.05


class Outlook:
    """Judges the finished runs of a plan again and again, and tells a `Progress`."""

    def __init__(self, study, plan, workdir, identity, progress):
        self._study, self._plan, self._progress = study, plan, progress
        self._workdir, self._identity = workdir, identity
        self._specs, self._found = study.specs(plan), {}
        # Not where every file is a request to an object store.
        self._is_shown = progress.is_shown and isinstance(workdir, pathlib.Path)
        self._next = 0.0

    def update(self):
        """Judges the runs that are finished by now, unless it just has."""
        if not self._is_shown or self._study.describe_outlook is None:
            return
        if time.monotonic() < self._next:
            return
        started = time.monotonic()
        # A verdict on some of the runs is a courtesy, which must not end a study.
        try:
            with warnings.catch_warnings(action="ignore"):
                self._judge()
        except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
            pass
        now = time.monotonic()
        self._next = now + (now - started) / MAX_SHARE

    def _judge(self):
        for spec in self._specs:
            if spec.name not in self._found:
                folder = RunFolder(self._workdir, spec.name)
                if (result := results.read(folder, spec, self._identity)) is not None:
                    self._found[spec.name] = result
        specs = [spec for spec in self._specs if spec.name in self._found]
        if not self._study.can_judge(specs):
            return
        details, _ = self._study.evaluate(specs, self._found, self._workdir)
        more = self._plan | self._study.extend_plan(details, self._plan)
        likely = [spec for spec in self._study.specs(more) if spec not in self._specs]
        self._progress.set_outlook(self._study.describe_outlook(details), likely)
