"""A single run that keeps records, checkpoints and the trained network."""

import contextlib
import dataclasses
import pathlib
import warnings
from collections.abc import Sequence
from typing import cast

from keras_svag._checks import positive_int
from keras_svag.engine.execution import DONE, FAILED
from keras_svag.engine.files import records, storage
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.studies.base.session import Session, claim_workdir
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.table import read_rows
from keras_svag.studies.base.workdir import describe_environment
from keras_svag.theory.coefficients import validate_ell

MODEL_FILE, RESULT = "model.keras", "result.json"
# Columns of the last record that are printed first and last.
MAIN_COLUMNS = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "weight_norm")
NOISE_COLUMNS = ("gradient_noise", "gradient_signal", "noise_to_signal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Study):
    """Trains a recipe once, with amplification `ell`; a study without verdict.

    Writes `config.json`, `environment.json`, `result.json` and, in `runs/<name>/`, the records
    (`metrics.jsonl`, `tensorboard/`), the last checkpoint and the trained network `model.keras`, a
    plain Keras model that can be loaded without keras_svag.

    Args:
        batch_size: Batch size B; hyperparameters are scaled from those of the recipe. Defaults to
            `None`, that of the recipe.
        ell: Amplification of the noise covariance. Defaults to `1`, plain SGD.

    Example:

    >>> result = Training(recipe, ell=2).run("runs/once", show_progress=False)
    >>> result["status"], result["last_record"]["step"]
    ('done', 32)
    """

    batch_size: int | None = None
    ell: float = 1.0

    name = "train"
    title = "One run"
    own_fields = ("batch_size", "ell")
    is_judged = False

    def validate(self):
        """Validates batch size and ell."""
        size = self.facts.batch_size if self.batch_size is None else self.batch_size
        self._set("batch_size", positive_int(f"{self.name}.batch_size", size))
        self._set("ell", validate_ell(self.ell))

    @property
    def mutable_fields(self):
        """None, since there is only one run."""
        return ()

    def specs(self, plan):
        """The single run."""
        return [self.make_spec(cast(int, self.batch_size), self.ell)]

    def run(  # type: ignore[override]
        self,
        workdir: str | pathlib.Path,
        show_progress: bool = True,
        command: Sequence[str] | None = None,
    ) -> dict:
        """Trains the network, or resumes its training.

        Args:
            workdir: Folder for all files, local or in an object store (`gs://`, `s3://`).
            show_progress: Whether to show a progress bar. Defaults to `True`.
            command: Command line to record, a list of strings. Defaults to `None`, that of this
                process.

        Returns:
            The content of `result.json`: cell, status and, unless the run diverged, its last
            record.

        Raises:
            ValueError: If the recipe is invalid, or `workdir` belongs to another run.
        """
        folder = storage.to_path(workdir)
        self.check()
        (spec,) = self.specs({})
        environment = describe_environment(self, command)
        is_writable = claim_workdir(folder, self, environment)
        recording = dataclasses.replace(self.recording, identity=environment["identity"])
        # A single program, which uses the whole machine.
        with RunPool(self.recipe, recording, folder, num_workers=1) as pool:
            session = Session(pool, self.facts.num_train, folder, show_progress=show_progress)
            result = session.execute(self, [[spec]])[spec.name]
            if result["status"] == DONE:
                result = {**result, "last_record": read_rows(folder, spec.name)[-1]}
                if is_writable:
                    result["model_sha256"] = _save_network(pool, spec, folder)
                else:
                    result = records.read_sealed(folder / RESULT) or result
        if is_writable:
            records.write_sealed(folder / RESULT, result)
        return result


def _save_network(pool, spec, workdir):
    """Saves the network, unless it is saved and intact; returns the SHA-256 of its file."""
    path = RunFolder(workdir, spec.name).path / MODEL_FILE
    saved = None
    with contextlib.suppress(records.DamagedError):
        saved = (records.read_sealed(workdir / RESULT) or {}).get("model_sha256")
    content = storage.read(path)
    if content is None or saved != records.sha256(content):
        if content is not None and saved is not None:
            warnings.warn(f"`{path}` is damaged. It is saved again.", stacklevel=3)
        pool.save_network(spec, path)
    return records.sha256(storage.read(path))


def format_result(result):
    """Formats what `Training.run` returns, for the terminal."""
    names = [f.name for f in dataclasses.fields(RunSpec) if f.name != "seed"]
    lines = [", ".join(f"{name}={result[name]}" for name in names)]
    if result["status"] == FAILED:
        return "\n".join([*lines, result["message"]])
    last = result["last_record"]
    metrics = [name for name in last if name.startswith(("test_", "train_"))]
    for name in dict.fromkeys((*MAIN_COLUMNS, *metrics, *NOISE_COLUMNS)):
        if last.get(name) is not None:
            lines.append(f"{name:>16}  {last[name]:.5g}")
    return "\n".join(lines)
