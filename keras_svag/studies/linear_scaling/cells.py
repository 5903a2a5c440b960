"""The runs at one batch size, measured over their equilibrium."""

import dataclasses

from keras_svag.engine.execution import DONE
from keras_svag.studies.base.table import column, read_rows, summarize_runs
from keras_svag.theory import Window, correct_noise, noise_and_signal_for_scaling
from keras_svag.theory.equilibrium.measurement import measure_window, window_means


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs at one batch size, measured.

    Attributes:
        batch_size: B.
        learning_rate: eta.
        kappa: B over the base batch size.
        window: the `Window` that was averaged over.
        rows: their rows of `results.csv`.
    """

    batch_size: int
    learning_rate: float
    kappa: float
    window: Window
    rows: list

    def column(self, name):
        """Values of a column in the rows of finished runs."""
        return column(self.rows, name)

    @property
    def num_finished(self):
        """Number of runs that did not diverge."""
        return len(self.column("seed"))


def measure(study, specs, results, workdir):
    """Finds the equilibrium of the runs at one batch size and averages over it.

    Args:
        study: a `LinearScaling`.
        specs: list of `RunSpec` that differ in their seed alone.
        results: dict from run name to the dict of `result.json`.
        workdir: folder of the study.

    Returns:
        A `Cell`. Its rows have, beside the columns of all studies, `kappa`, `scaled_noise` (B N,
        corrected for sampling so that batch sizes can be compared), and `bound_noise` and
        `bound_signal`, the N and G of the theorem.
    """
    spec, facts = specs[0], study.facts
    done = [s for s in specs if results[s.name]["status"] == DONE]
    histories = {s.name: read_rows(workdir, s.name) for s in done}
    decay = facts.weight_decay_at(spec.batch_size)
    window = measure_window(
        list(histories.values()), spec.total, study.window, decay, mode=study.phase
    )
    fractions = window.fractions
    rows = summarize_runs(specs, results, fractions, facts, workdir)
    sampled = (spec.batch_size, facts.num_train, facts.sampling)
    for row in rows:
        row["kappa"] = spec.batch_size / study.base_batch_size
        if row["status"] == DONE:
            logged = window_means(histories[row["name"]], spec.total, fractions)
            noise, signal = logged["gradient_noise"], logged["gradient_signal"]
            row["scaled_noise"] = spec.batch_size * correct_noise(noise, *sampled)
            row["bound_noise"], row["bound_signal"] = noise_and_signal_for_scaling(
                noise, signal, *sampled
            )
    kappa = spec.batch_size / study.base_batch_size
    return Cell(spec.batch_size, spec.learning_rate, kappa, window, rows)
