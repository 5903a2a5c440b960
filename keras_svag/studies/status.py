"""Progress of a study, read from its files: also while it runs, by another process or machine."""

import contextlib
import dataclasses
import time

from keras_svag.engine.files import records, results, storage
from keras_svag.engine.files.results import DONE, FAILED
from keras_svag.engine.progress import describe_seconds
from keras_svag.engine.state import RunFolder
from keras_svag.report.text import Sheet
from keras_svag.studies.base.workdir import ENVIRONMENT
from keras_svag.studies.stored import (
    finished_runs,
    judge_finished,
    planned_specs,
    read_study,
)

# A run whose files have not changed for this long is not in progress.
STALE_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Status:
    """Progress of a study; `print` shows it.

    `done` and `failed` runs of those `planned` so far (a study may add seeds), the names of
    `damaged` and of `running` ones, `fraction_done` of the work, the `rate` in examples per second,
    and the provisional `table`; the last three are `None` if unknown.
    """

    name: str
    done: int
    failed: int
    damaged: list[str]
    running: list[str]
    planned: int
    fraction_done: float
    seconds_left: float | None
    rate: float | None
    table: str | None

    def __str__(self):
        percent = f"{100 * self.fraction_done:.0f} % of the work"
        parts = [f"{self.done} of {self.planned} runs done ({percent})"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.damaged:
            parts.append(f"{len(self.damaged)} damaged ({', '.join(self.damaged)})")
        if self.running:
            parts.append(f"{len(self.running)} in progress")
        if self.rate is not None:
            parts.append(f"{self.rate:,.0f} examples/s")
        if self.seconds_left is not None and self.fraction_done < 1:
            parts.append(f"about {describe_seconds(self.seconds_left)} left")
        text = f"{self.name}: {', '.join(parts)}."
        if self.damaged:
            text += " Repeat the command of the study, which restores damaged runs."
        return text if self.table is None else Sheet.below(text, self.table)


def read_status(workdir):
    """Reads the `Status` of the study in a folder."""
    workdir = storage.to_path(workdir)
    study, environment = read_study(workdir)
    found, damaged = finished_runs(study, workdir, environment["identity"])
    specs = map(results.spec_of, found.values())
    planned = {s.name: s for s in [*planned_specs(study, workdir, found), *specs]}
    costs = {
        name: spec.steps * spec.examples_per_step(study.facts.num_train)
        for name, spec in planned.items()
    }
    total = sum(costs.values())
    done = sum(costs[n] * _fraction_done(workdir, planned[n], found) for n in planned)
    rate = _rate(workdir, costs, found)
    try:
        table = study.format_table(judge_finished(study, workdir, found)[0])
    except ValueError:  # too few runs
        table = None
    statuses = [result["status"] for result in found.values()]
    return Status(
        name=study.name,
        done=statuses.count(DONE),
        failed=statuses.count(FAILED),
        damaged=sorted(damaged),
        running=[
            name
            for name in planned
            if name not in (*found, *damaged) and _has_changed_lately(workdir, name)
        ],
        planned=len(planned),
        fraction_done=done / total,
        seconds_left=(total - done) / rate if rate else None,
        rate=rate,
        table=table,
    )


def _fraction_done(workdir, spec, found):
    if spec.name in found:
        return 1.0
    try:
        rows = records.read_jsonl(RunFolder(workdir, spec.name).metrics)
        return min(1.0, rows[-1]["step"] / spec.steps) if rows else 0.0
    except (records.DamagedError, KeyError, TypeError):
        return 0.0


def _has_changed_lately(workdir, name):
    paths = storage.find(RunFolder(workdir, name).path, "**/*")
    times = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # replaced or removed in the meantime
            times.append(storage.modified(path))
    return bool(times) and time.time() - max(times) < STALE_SECONDS


def _rate(workdir, costs, found):
    """Examples per second since the study was last started, or `None`."""
    start = storage.modified(workdir / ENVIRONMENT)
    ends = {n: storage.modified(RunFolder(workdir, n).result) for n in found if n in costs}
    ends = {name: end for name, end in ends.items() if end > start}
    if not ends:
        return None
    return sum(costs[name] for name in ends) / (max(ends.values()) - start)
