"""The runs at one batch size, measured over their equilibrium."""

import dataclasses
from typing import cast

from keras_svag.engine.execution import DONE
from keras_svag.studies.base.table import column, read_rows, summarize_runs
from keras_svag.theory import Window, correct_noise, noise_and_signal_for_scaling
from keras_svag.theory.equilibrium.measurement import measure_window, window_means

VELOCITY_NORM = "velocity_norm"


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs at one batch size: `kappa` is B over the base's, `rows` are those of the table."""

    batch_size: int
    learning_rate: float
    kappa: float
    window: Window
    rows: list

    def column(self, name):
        """Returns a column over the finished runs."""
        return column(self.rows, name)

    @property
    def num_finished(self):
        """Number of runs that did not diverge."""
        return len(self.column("seed"))


def measure(study, specs, results, workdir):
    """Returns the `Cell` of runs that differ in their seed only, averaged over equilibrium."""
    spec, facts = specs[0], study.facts
    histories = {
        s.name: read_rows(workdir, s.name) for s in specs if results[s.name]["status"] == DONE
    }
    decay = facts.balancing_decay_at(spec.batch_size)
    window = measure_window(
        list(histories.values()), spec.total, study.window, decay, mode=study.phase
    )
    kappa = spec.batch_size / study.base_batch_size
    sampled = (spec.batch_size, facts.num_train, facts.sampling)
    fractions = cast(tuple[float, float], window.fractions)
    rows = summarize_runs(specs, results, fractions, facts, workdir)
    for row in rows:
        row["kappa"] = kappa
        if row["status"] == DONE:
            means = window_means(histories[row["name"]], spec.total, fractions)
            noise, signal = means["gradient_noise"], means["gradient_signal"]
            if VELOCITY_NORM in means:
                row[VELOCITY_NORM] = means[VELOCITY_NORM]
            # Comparable between batch sizes, whatever the sampling.
            row["scaled_noise"] = spec.batch_size * correct_noise(noise, *sampled)
            # N and G as the theorem on the largest kappa has them.
            row["bound_noise"], row["bound_signal"] = noise_and_signal_for_scaling(
                noise, signal, *sampled
            )
    return Cell(spec.batch_size, spec.learning_rate, kappa, window, rows)
