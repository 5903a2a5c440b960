"""The study "how far does the linear scaling rule hold?": larger batches, eta in proportion.

Li, Malladi, Arora 2021 (arXiv 2102.12470), section 5: N and G of the base run alone bound the
factor kappa by which batch size and learning rate can be scaled together before training changes.
The base runs come first, and what they predict is on disk before any other run begins.

What is compared is what the theorem assumes. Its proof (`docs/theory_conditions.md`, 4.2) takes the
equilibrium identity `(2 lambda - eta lambda^2) R = eta (G + N)` at both batch sizes and uses
`R' <= C R`, `G' >= G/C` and `kappa N' >= N/C`: R and G as they are, and N times the batch size (or
the learning rate), since the rule keeps noise per time; N itself must fall as 1/kappa. So "holds"
means that R, B N and G, averaged over equilibrium, are within a factor C of those of the base run,
and no kappa beyond the bound can hold. Test accuracy is shown beside it; as a criterion, and R
alone, are choices of the config that the theorem says nothing about.
"""

import dataclasses
import typing

from keras_svag._checks import finite_float, one_of, positive_int, sorted_values
from keras_svag.engine.files import records
from keras_svag.optimizers.scaling import max_kappa
from keras_svag.recipe import Recipe
from keras_svag.report.text import align, format_interval
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.titles import end_quantities, end_titles
from keras_svag.studies.linear_scaling import figures, recommendations, verdict
from keras_svag.studies.linear_scaling.cells import measure
from keras_svag.studies.linear_scaling.prediction import predict, write_prediction
from keras_svag.theory import correct_noise
from keras_svag.theory.equilibrium.measurement import AUTO, GIVEN
from keras_svag.theory.outcomes import BASE, FAILS, HOLDS, INCONCLUSIVE
from keras_svag.theory.sampling_modes import FIXED_ORDER

CLOSENESS, WEIGHT_NORM, TEST_ACCURACY = "closeness", "weight_norm", "test_accuracy"
CRITERIA = (CLOSENESS, WEIGHT_NORM, TEST_ACCURACY)
PHASES = (AUTO, GIVEN)
# Batch sizes of a sweep by default, as factors on that of the recipe.
FACTORS = (0.5, 1, 2, 4, 8, 16, 32, 64)
TITLES = {
    "scaled_noise": "B N",
    "gradient_signal": "G",
    "weight_norm": "R",
    "gradient_noise": "N",
    "noise_to_signal": "N/G",
    "equilibrium_train_loss": "train loss (window)",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearScaling(Study):
    """How far can batch size and learning rate be scaled together before training changes?

    Trains the recipe at several batch sizes, hyperparameters scaled by the optimizer's rule, and
    compares R, B N and G, averaged over equilibrium, with those at the recipe's batch size (Li,
    Malladi, Arora 2021, arXiv 2102.12470, section 5). The base runs come first, and the largest
    factor that their N/G predicts is on disk before any other run begins.

    Args:
        recipe: a `keras_svag.Recipe`; its batch size is the base.
        batch_sizes: batch sizes of the sweep. Defaults to `None`: 1/2, 1, 2, ... 64 times that of
            the recipe, as far as a batch is at most a quarter of the training set and the
            optimizer's scaling rule allows it.
        criterion: what is compared: `"closeness"` (R, B N and G within a factor `closeness`),
            `"weight_norm"` (R alone) or `"test_accuracy"` (lower by at most `tolerance`; needs the
            metric `"accuracy"` and test data). Defaults to `"closeness"`.
        tolerance: of test accuracy. Defaults to `0.02`.
        phase: `"auto"`: averages start where drift ends; `"config"`: they are over `window`.
            Defaults to `"auto"`.
        **kwargs: see `keras_svag.studies.Study`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> study = LinearScaling(recipe, batch_sizes=(8, 16), num_seeds=2)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_ell1_seed1', 'b16_ell1_seed0', 'b16_ell1_seed1']
    """

    batch_sizes: typing.Any = None
    criterion: str = CLOSENESS
    tolerance: float = 0.02
    phase: str = AUTO

    name = "linear_scaling"
    title = "Scaling rule:"
    own_fields = ("batch_sizes", "criterion", "phase", "tolerance")

    def validate(self):
        """Sorts the grid; batch sizes default to multiples of the recipe's."""
        prefix, base = f"{self.name}.", self.facts.batch_size
        sizes = self.batch_sizes
        if sizes is None:
            sizes = [round(base * factor) for factor in FACTORS if base * factor >= 1]
            sizes = [b for b in sizes if b == base or self._is_sensible(b)]
        self._set(
            "batch_sizes",
            sorted_values(f"{prefix}batch_sizes", sizes, lambda b: positive_int("batch_size", b)),
        )
        one_of(f"{prefix}criterion", self.criterion, CRITERIA)
        one_of(f"{prefix}phase", self.phase, PHASES)
        tolerance = finite_float(
            f"{prefix}tolerance", self.tolerance, "a number > 0", 0.0, exclusive=True
        )
        self._set("tolerance", tolerance)

    def _is_sensible(self, batch_size):
        """Whether a batch size is in the sweep by default: small, and allowed by the rule."""
        if 4 * batch_size > self.facts.num_train:
            return False
        if not isinstance(self.recipe, Recipe):
            return True
        return batch_size < max_kappa(self.recipe.svag, self.facts.rule) * self.base_batch_size

    @property
    def base_batch_size(self):
        """The batch size of the recipe, with which all others are compared."""
        return self.facts.batch_size

    def specs(self, num_seeds):
        """The seeds at every batch size, the base's among them."""
        return [
            self.make_spec(batch_size, seed=seed)
            for batch_size in sorted({self.base_batch_size, *self.batch_sizes})
            for seed in range(num_seeds.get(batch_size, self.num_seeds))
        ]

    def stages(self, specs):
        """The base runs, then all others."""
        base = [spec for spec in specs if spec.batch_size == self.base_batch_size]
        return [base, [spec for spec in specs if spec not in base]]

    def on_stage(self, index, specs, results, workdir):
        """Writes `prediction.json` when the base runs are finished."""
        if index == 0:
            write_prediction(workdir, predict(self, measure(self, specs, results, workdir)))

    def check(self):
        """Raises what a run would raise later, or where there is no noise to scale."""
        if self.facts.sampling == FIXED_ORDER:
            raise ValueError(
                "`sampling` must be random: in a fixed order there is no gradient noise to scale. "
                f"Received: sampling={FIXED_ORDER!r}. Use sampling='with_replacement'."
            )
        super().check()
        for batch_size in {self.base_batch_size, *self.batch_sizes}:
            correct_noise(1.0, batch_size, self.facts.num_train, self.facts.sampling)

    def evaluate(self, specs, results, workdir):
        """The dict of `verdict.json` and the rows of `results.csv`."""
        sizes = sorted({spec.batch_size for spec in specs})
        cells = [
            measure(self, [s for s in specs if s.batch_size == size], results, workdir)
            for size in sizes
        ]
        return verdict.build_verdict(self, cells), [row for cell in cells for row in cell.rows]

    def can_judge(self, specs):
        """Without the base runs there is nothing to compare with."""
        return any(spec.batch_size == self.base_batch_size for spec in specs)

    def verdict_of(self, details):
        """`"holds"` up to the largest batch size, `"fails"` at one, or `"inconclusive"`."""
        outcomes = {s["outcome"] for s in details["settings"] if s["kappa"] > 1} - {BASE}
        if FAILS in outcomes:
            return FAILS
        return HOLDS if outcomes == {HOLDS} else INCONCLUSIVE

    def figures(self, table, details, workdir):
        """Where the rule holds, and the curves."""
        return figures.build_figures(self, table, details, workdir)

    def recommend(self, details):
        """What to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Headings of the report's table of settings."""
        return {**TITLES, **end_titles(table)}

    def format_table(self, details):
        """The table that the trainer prints at its end."""
        details = records.to_json(details)
        ends = end_quantities(details["settings"])
        columns = ("scaled_noise", "gradient_signal", "noise_to_signal", "weight_norm", *ends)
        header = ("B", "kappa", "seeds", "B N", "G", "N/G", "R")
        lines = [(*header, *(e.replace("_", " ") for e in ends), "identity", "outcome")]
        for setting in details["settings"]:
            cells = (f"{setting['batch_size']}", f"{setting['kappa']:g}", f"{setting['num_seeds']}")
            cells += tuple(format_interval(setting.get(name)) for name in columns)
            identity = format_interval(setting["equilibrium"]["identity"])
            lines.append((*cells, identity, setting["outcome"]))
        text = [*align(lines), ""]
        for form, bound in details["predicted_max_kappa"].items():
            text.append(f"Predicted largest kappa ({form}): {format_interval(bound)}")
        observed = details["observed_max_kappa"]
        text.append(f"Observed: holds up to {_kappa(observed['value'])}")
        text[-1] += f", first fails at {_kappa(observed['first_failure'])}"
        text.append(details["comparison"]["reason"])
        if details["not_in_equilibrium"]:
            sizes = ", ".join(map(str, details["not_in_equilibrium"]))
            text.append(f"Equilibrium not reached at B = {sizes}: means over the window given.")
        return "\n".join(text)


def _kappa(value):
    return "-" if value is None else f"{value:g}"
