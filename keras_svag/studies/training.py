"""One run with everything: no study, but records, checkpoints and the trained network."""

import dataclasses
import pathlib

from keras_svag._checks import positive_int
from keras_svag.engine.execution import DONE, FAILED
from keras_svag.engine.files import records
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.studies.base.session import Session
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.table import read_rows
from keras_svag.studies.base.workdir import claim
from keras_svag.theory.coefficients import validate_ell

MODEL_FILE = "model.keras"
# Columns of a record that sum up a run, in the order in which they are told.
SUMMARY = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "weight_norm")
MEASURED = ("gradient_noise", "gradient_signal", "noise_to_signal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Study):
    """Trains a recipe once, with amplification `ell`.

    Leaves `config.json`, `environment.json`, `result.json` and `runs/<name>/` with the records
    (`metrics.jsonl`, `tensorboard/`), the last checkpoint and the trained network `model.keras`, a
    plain Keras model that needs no keras_svag to be loaded.

    Args:
        recipe: a `keras_svag.Recipe`.
        batch_size: B, hyperparameters scaled from those of the recipe. Defaults to `None`: the
            recipe's.
        ell: amplification. Defaults to `1`.
        **kwargs: see `keras_svag.studies.Study`.
    """

    batch_size: int | None = None
    ell: float = 1.0

    name = "train"
    title = "One run"
    own_fields = ("batch_size", "ell")
    is_judged = False

    def validate(self):
        """Checks batch size and ell."""
        size = self.facts.batch_size if self.batch_size is None else self.batch_size
        self._set("batch_size", positive_int(f"{self.name}.batch_size", size))
        self._set("ell", validate_ell(self.ell))

    @property
    def mutable_fields(self):
        """None: one run is all there is."""
        return ()

    def specs(self, num_seeds):
        """The run."""
        return [self.make_spec(self.batch_size, self.ell)]

    def run(self, workdir, show_progress=True, command=None):
        """Trains the network, or goes on with it.

        Args:
            workdir: folder for all files.
            show_progress: whether to show a progress bar. Defaults to `True`.
            command: list of strings, the command to keep. Defaults to that of this process.

        Returns:
            The dict that stands in `result.json`: cell, status and, of a run that did not diverge,
            its last record.

        Raises:
            ValueError: if the recipe is wrong or `workdir` belongs to another run.
        """
        self.check()
        (spec,) = self.specs({})
        workdir = pathlib.Path(workdir)
        claim(workdir, self, command)
        # One run is one program, which uses the whole machine by itself.
        with RunPool(self.recipe, self.recording, workdir, num_workers=1) as pool:
            session = Session(pool, self.facts.num_train, workdir, show_progress=show_progress)
            result = session.execute([[spec]])[spec.name]
            if result["status"] == DONE:
                pool.save_network(spec, RunFolder(workdir, spec.name).path / MODEL_FILE)
                result = {**result, "last_record": read_rows(workdir, spec.name)[-1]}
        records.write_json(workdir / "result.json", result)
        return result


def format_result(result):
    """Words for the dict that `Training.run` returns, a string of several lines."""
    fields = [f.name for f in dataclasses.fields(RunSpec)]
    lines = [", ".join(f"{name}={result[name]}" for name in fields if name != "seed")]
    if result["status"] == FAILED:
        return "\n".join([*lines, result["message"]])
    last = result["last_record"]
    others = [name for name in last if name.startswith(("test_", "train_")) and name not in SUMMARY]
    for name in (*SUMMARY, *others, *MEASURED):
        if last.get(name) is not None:
            lines.append(f"{name:>16}  {last[name]:.5g}")
    return "\n".join(lines)
