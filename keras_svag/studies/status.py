"""How far a study is, from its files: also while it runs, from another terminal or machine."""

import dataclasses
import pathlib
import time

from keras_svag.engine.execution import DONE, FAILED
from keras_svag.engine.files import records
from keras_svag.engine.progress import describe_seconds
from keras_svag.engine.state import RunFolder
from keras_svag.studies.base.workdir import ENVIRONMENT
from keras_svag.studies.stored import evaluate, finished_runs, read_study

# A run whose files have not changed for so long is not being worked on.
STALE_SECONDS = 600


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        name: name of the study.
        done: number of finished runs.
        failed: number of runs that failed.
        running: names of runs in progress, whose files changed lately.
        planned: number of runs planned so far; a study may add seeds.
        share: share of the work that is done, from 0 to 1.
        seconds_left: at the rate so far, or `None` where that is not known.
        rate: examples per second, or `None`.
        table: the provisional table, or `None` as long as there is nothing to judge.
    """

    name: str
    done: int
    failed: int
    running: list
    planned: int
    share: float
    seconds_left: float | None
    rate: float | None
    table: str | None

    def __str__(self):
        """Some lines for the terminal."""
        parts = [f"{self.done} of {self.planned} runs done ({100 * self.share:.0f} % of the work)"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.running:
            parts.append(f"{len(self.running)} in progress")
        if self.rate is not None:
            parts.append(f"{self.rate:,.0f} examples/s")
        if self.seconds_left is not None and self.share < 1:
            parts.append(f"about {describe_seconds(self.seconds_left)} left")
        text = f"{self.name}: {', '.join(parts)}."
        return text if self.table is None else f"{text}\n\n{self.table}"


def read_status(workdir, now=None):
    """Reads how far a study is; nothing is written.

    Args:
        workdir: folder of the study.
        now: seconds since the epoch. Defaults to `None`: the clock's.

    Returns:
        A `Status`.

    Raises:
        ValueError: if `workdir` holds no study.
    """
    workdir = pathlib.Path(workdir).expanduser()
    now = time.time() if now is None else now
    study, _ = read_study(workdir)
    num_train = study.facts.num_train
    specs, results = finished_runs(workdir)
    planned = {spec.name: spec for spec in [*study.specs(study.first_seeds()), *specs]}
    shares = {name: _share(workdir, spec, results) for name, spec in planned.items()}
    costs = {n: spec.steps * spec.examples_per_step(num_train) for n, spec in planned.items()}
    work = sum(costs.values())
    finished = sum(costs[name] * shares[name] for name in planned)
    rate = _rate(workdir, costs, results)
    try:
        table = study.format_table(evaluate(study, workdir)[0])
    except ValueError:
        table = None
    statuses = [result["status"] for result in results.values()]
    return Status(
        name=study.name,
        done=statuses.count(DONE),
        failed=statuses.count(FAILED),
        running=[n for n in planned if n not in results and _is_fresh(workdir, n, now)],
        planned=len(planned),
        share=finished / work,
        seconds_left=(work - finished) / rate if rate else None,
        rate=rate,
        table=table,
    )


def _share(workdir, spec, results):
    """Share of a run that is done, as far as its records on disk tell."""
    if spec.name in results:
        return 1.0
    try:
        rows = records.read_jsonl(RunFolder(workdir, spec.name).metrics)
    except records.DamagedError:
        return 0.0
    return rows[-1]["step"] / spec.steps if rows else 0.0


def _is_fresh(workdir, name, now):
    paths = RunFolder(workdir, name).path.rglob("*")
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    return bool(times) and now - max(times) < STALE_SECONDS


def _rate(workdir, costs, results):
    """Examples per second since the last call of the study, or `None`."""
    started = (workdir / ENVIRONMENT).stat().st_mtime
    ends = {n: RunFolder(workdir, n).result.stat().st_mtime for n in results if n in costs}
    since = {name: end for name, end in ends.items() if end > started}
    if not since:
        return None
    elapsed = max(since.values()) - started
    return sum(costs[name] for name in since) / elapsed if elapsed > 0 else None
