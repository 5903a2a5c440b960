"""Studies without training: records written from a known truth."""

import pickle
import zlib

import numpy as np

from keras_svag.engine.files import records, results
from keras_svag.engine.files.results import DONE, FAILED
from keras_svag.engine.state import RunFolder

COLUMNS = ("loss", "accuracy", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


def make_pool(truth, spread=None, failed=(), grids=None, accuracy=None, loss=None):
    """A stand-in for `RunPool` whose runs have constant R, N and G from a known truth.

    Args:
        truth: function of a `RunSpec`; returns `(R, N, G)`, the geometric means over seeds.
        spread: function of a `RunSpec`; returns the standard deviation of their logs. 0 by default.
        failed: names of the runs that diverge.
        grids: list to which the names of the runs of each call are appended.
        accuracy: function of a `RunSpec`; returns its test accuracy. 0.5 by default.
        loss: function of a `RunSpec` and an effective step; returns its training loss. 0.5 by
            default.

    Returns:
        A class with the constructor and the methods of `RunPool`.
    """

    class SyntheticPool:
        def __init__(self, recipe, recording, workdir, num_workers, vectorize_seeds):
            self._recording, self._workdir = recording, workdir

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
            folder = RunFolder(self._workdir, run.name)
            records.make_folder(folder.path, parents=True)
            shared = {"identity": self._recording.identity, "versions": {"keras": "3"}}
            if run.name in failed:
                message = f"{run.name} <diverged>"
                content = {"status": FAILED, "failed_step": 3, "message": message, "seconds": 1.0}
                return results.write(folder, run, content | shared, [])
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
                    "train_loss": loss(run, point) if loss else 0.5,
                }
                for point in self._recording.points(run)
            ]
            records.write_jsonl(folder.metrics, rows)
            return results.write(folder, run, {"status": DONE, "seconds": 2.0, **shared}, rows)

    return SyntheticPool


def scaling_world(factors, noise=3.0, signal=1.0, base=8):
    """`(R, N, G)` with B N constant, but at each kappa of `factors` times its three numbers."""

    def truth(run):
        kappa = run.batch_size / base
        r, n, g = factors.get(kappa, (1.0, 1.0, 1.0))
        return 50.0 * r, noise / kappa * n, signal * g

    return truth
