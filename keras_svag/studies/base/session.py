"""Executes the runs of a study on a pool: stages, shards, progress."""

import sys

from keras_svag.engine.execution import FAILED
from keras_svag.engine.progress import Progress
from keras_svag.engine.spec import describe_cost
from keras_svag.engine.state import RunFolder


class Session:
    """One call of a study: its pool, its part of the runs, its progress.

    Args:
        pool: a `RunPool`.
        num_train: n, number of training examples.
        workdir: folder of the study.
        shard: a `Shard`, or `None` for all runs. Defaults to `None`.
        show_progress: whether to show anything. Defaults to `True`.
    """

    def __init__(self, pool, num_train, workdir, shard=None, show_progress=True):
        self.pool, self.workdir = pool, workdir
        self._num_train, self._shard, self._show = num_train, shard, show_progress

    def execute(self, stages, on_stage=lambda index, results: None):
        """Executes stages of runs one after the other, with one progress bar over all of them.

        Args:
            stages: list of lists of `RunSpec`. Later stages need the whole of those before, so each
                process does all runs of these that no other is at, its own first.
            on_stage: called with the index of a stage and the results so far, when its runs are
                finished and before any of the next begins.

        Returns:
            A dict from run name to the dict of `result.json`, of all runs; `None` where the runs of
            this shard are finished and some of the others are not.
        """
        own = [self._own(specs, is_last=specs is stages[-1]) for specs in stages]
        self._announce([spec for specs in own for spec in specs])
        every = [spec for specs in own for spec in specs]
        finished = [spec.name for spec in every if is_finished(self.workdir, spec)]
        results = {}
        with Progress(every, self._num_train, finished, self._show) as progress:
            for index, specs in enumerate(own):
                found = self.pool.execute(specs, progress.advance)
                for result in found.values():
                    if result["status"] == FAILED:
                        progress.write(result["message"])
                results |= found
                on_stage(index, results)
        return self._gather([spec for specs in stages for spec in specs], results)

    def _own(self, specs, is_last):
        if self._shard is None:
            return specs
        first = self._shard.select(specs, self._num_train)
        return first if is_last else [*first, *(spec for spec in specs if spec not in first)]

    def _announce(self, specs):
        """Prints what is to be done, on the stream of the progress bar and before it."""
        if self._show:
            todo = [spec for spec in specs if not is_finished(self.workdir, spec)]
            line = describe_cost(todo, self._num_train)
            done = f" Finished before: {len(specs) - len(todo)}." if len(todo) < len(specs) else ""
            print(f"{line}{done}", file=sys.stderr, flush=True)

    def _gather(self, specs, results):
        """Adds the results of the runs that other shards have done."""
        others = [spec for spec in specs if spec.name not in results]
        if not others:
            return results
        if not all(is_finished(self.workdir, spec) for spec in others):
            return None
        # Finished, so that this only reads their results; or repairs them, if they are damaged.
        return results | self.pool.execute(others, lambda spec, steps: None)


def is_finished(workdir, spec):
    """Whether there is a result of a run."""
    return RunFolder(workdir, spec.name).result.exists()
