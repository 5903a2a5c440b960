"""One call of a study: stages of runs on a pool, shards, progress, and what is added."""

import itertools
import time
import warnings

from keras_svag.engine.execution import FAILED
from keras_svag.engine.files import records, storage, tensorboard
from keras_svag.engine.progress import Progress, announce, describe_seconds
from keras_svag.engine.spec import describe_cost
from keras_svag.engine.state import RunFolder
from keras_svag.studies.base.looks import record_looks
from keras_svag.studies.base.outlook import Outlook
from keras_svag.studies.base.result import Result
from keras_svag.studies.base.table import mixed_versions
from keras_svag.studies.base.workdir import ENVIRONMENT, prepare_workdir


class Session:
    """Executes the runs of a study, or of one shard (a `Shard`) of it, on a `RunPool`."""

    def __init__(self, pool, num_train, workdir, shard=None, show_progress=True, is_writable=True):
        self.pool, self.workdir, self._is_writable = pool, workdir, is_writable
        self._num_train, self._shard, self._show_progress = num_train, shard, show_progress
        self._progress = Progress(num_train, show_progress)

    def run(self, study, environment):
        """Returns the `Result` of a study, or `None` if runs of other shards are not finished."""
        started = time.monotonic()
        with self._progress:
            result = self._run(study, environment)
        if result is not None and self._show_progress:
            seconds = describe_seconds(time.monotonic() - started)
            failed = len(result.details.get("failed_runs", ()))
            note = f", {failed} of them failed" if failed else ""
            announce(f"{len(result.table)} runs finished{note}, {seconds}. Writing the report ...")
        return result

    def _run(self, study, environment):
        plan, extensions = study.first_plan(), list[str]()
        while True:
            specs = study.specs(plan)
            outlook = Outlook(study, plan, self.workdir, environment["identity"], self._progress)
            results = self._execute(study, study.stages(specs), outlook.update)
            if results is None:
                return None
            details, table = judge_runs(study, specs, results, self.workdir)
            # Before anything is added, so that a resumed study counts the same looks.
            if self._is_writable:
                record_looks(self.workdir, details.get("looks", {}))
            more = study.extend_plan(details, plan)
            if not more:
                if extensions:
                    details["extensions"] = extensions
                return Result(study, self.workdir, details, table, environment)
            for size, new in more.items():
                extensions.append(study.describe_extension(size, plan[size], new, details))
                self._progress.write(extensions[-1])
            plan = plan | more

    def execute(self, study, stages):
        """Returns results by run name, or `None` if runs of other shards are not finished."""
        with self._progress:
            return self._execute(study, stages)

    def _execute(self, study, stages, on_run=lambda: None):
        # A stage needs all runs of those before it, so every shard helps with these: its own first.
        assigned = [self._assigned(specs, is_last=specs is stages[-1]) for specs in stages]
        self._begin(list(itertools.chain(*assigned)))
        results: dict[str, dict] = {}

        def on_steps(run, steps):
            if self._progress.advance(run, steps):
                on_run()

        for index, stage in enumerate(assigned):
            self._progress.set_stage(_name_stage(study, index, len(stages)))
            stage_results = self.pool.execute(stage, on_steps)
            for spec in stage:
                self._progress.finish(spec)
                if (result := stage_results[spec.name])["status"] == FAILED:
                    self._progress.write(result["message"])
            results |= stage_results
            if self._is_writable:
                study.on_stage(index, stages[index], results, self.workdir)
        return self._add_other_shards(list(itertools.chain(*stages)), results)

    def _begin(self, specs):
        is_first = not self._progress.num_runs
        self._progress.begin(specs)
        if is_first:
            todo = [spec for spec in specs if not is_finished(self.workdir, spec)]
            line = describe_cost(todo, self._num_train, getattr(self.pool, "num_workers", None))
            if len(todo) < len(specs):
                line += f" Finished before: {len(specs) - len(todo)}."
            self._progress.write(line)
            if not tensorboard.HAS_TENSORBOARD:
                self._progress.write(tensorboard.MISSING)

    def _assigned(self, specs, is_last):
        if self._shard is None:
            return specs
        own = self._shard.select(specs, self._num_train)
        return own if is_last else [*own, *(spec for spec in specs if spec not in own)]

    def _add_other_shards(self, specs, results):
        others = [spec for spec in specs if spec.name not in results]
        if not all(is_finished(self.workdir, spec) for spec in others):
            return None
        if not others:
            return results
        # Finished, so this only reads their results (or repeats runs whose files are damaged).
        return results | self.pool.execute(others, lambda spec, steps: None)


def _name_stage(study, index, count):
    if count == 1:
        return ""
    return study.stage_names[index] if study.stage_names else f"stage {index + 1} of {count}"


def claim_workdir(workdir, study, environment):
    """Writes the settings of a study; False if its folder is read-only (and finished)."""
    try:
        prepare_workdir(workdir, study, environment=environment)
        return True
    except records.ReadOnlyError:
        specs = study.specs(study.first_plan())
        is_known = storage.exists(workdir / ENVIRONMENT)
        if not is_known or not all(is_finished(workdir, spec) for spec in specs):
            raise
        warnings.warn(
            f"`{workdir}` is read-only: its finished runs are judged, and nothing is written.",
            stacklevel=3,
        )
        return False


def judge_runs(study, specs, results, workdir):
    """Verdict and table of finished runs, with the versions in which they differ."""
    details, table = study.evaluate(specs, results, workdir)
    if versions := mixed_versions(results):
        details["mixed_versions"] = versions
    return details, table


def is_finished(workdir, spec):
    """Returns True if the run has a result."""
    return storage.exists(RunFolder(workdir, spec.name).result)
