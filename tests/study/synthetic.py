"""Studies without training: records written from a known truth."""

import pickle
import zlib

import numpy as np

from keras_svag.study import records, runs

COLUMNS = ("loss", "accuracy", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


def make_pool(truth, spread=None, failed=(), grids=None, accuracy=None):
    """A stand-in for `RunPool` whose runs have constant R, N and G from a known truth.

    Args:
        truth: function of a `Run`; returns `(R, N, G)`, the geometric means over seeds.
        spread: function of a `Run`; returns the standard deviation of their logs. 0 by default.
        failed: names of the runs that diverge.
        grids: list to which the names of the runs of each call are appended.
        accuracy: function of a `Run`; returns its test accuracy. 0.5 by default.

    Returns:
        A class with the constructor and the methods of `RunPool`.
    """

    class SyntheticPool:
        def __init__(self, config, load_dataset, workdir, num_workers):
            self._config, self._workdir = config, workdir

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def execute(self, grid, on_steps):
            if grids is not None:
                grids.append([run.name for run in grid])
            return {run.name: self._execute(run) for run in grid}

        def call_all(self, calls):
            for call in calls:
                pickle.dumps(call.args)  # as on the way to a worker process
                call()

        def _execute(self, run):
            if run.name in failed:
                return {"status": runs.FAILED, "message": f"{run.name} <diverged>", "seconds": 1.0}
            rng = np.random.default_rng(zlib.crc32(run.name.encode()))
            logs = np.log(truth(run)) + (spread(run) if spread else 0) * rng.normal(size=3)
            weight_norm, noise, signal = np.exp(logs).tolist()
            rows = [
                {
                    "step": run.steps_until(point),
                    "effective_step": point,
                    "time": point * 0.1,
                    "learning_rate": run.learning_rate,
                    "weight_norm": weight_norm,
                    "gradient_noise": noise,
                    "gradient_signal": signal,
                    "noise_to_signal": noise / signal,
                    **dict.fromkeys(COLUMNS, 0.5),
                    "test_accuracy": accuracy(run) if accuracy else 0.5,
                }
                for point in run.record_points(self._config["num_records"])
            ]
            records.write_jsonl(runs.RunFolder(self._workdir, run.name).metrics, rows)
            return {"status": runs.DONE, "seconds": 2.0}

    return SyntheticPool
