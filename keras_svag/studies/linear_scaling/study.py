"""The study "how far does the linear scaling rule hold?", section 5 of Li, Malladi, Arora 2021.

The outcomes compare what the proof (docs/theory_conditions.md, 4.2) assumes: `R' <= C R`,
`G' >= G/C` and `kappa N' >= N/C`. Hence R and G themselves, but N times the batch size.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_svag._checks import finite_float, one_of, positive_int, sorted_values
from keras_svag.engine.files import records
from keras_svag.optimizers.scaling import max_kappa
from keras_svag.recipe import Recipe
from keras_svag.report.text import Sheet, format_interval
from keras_svag.studies.base.checks import check_is_random
from keras_svag.studies.base.criteria import parse_criteria
from keras_svag.studies.base.looks import describe_look
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.wording import end_quantities, end_titles
from keras_svag.studies.linear_scaling import figures, recommendations, verdict
from keras_svag.studies.linear_scaling.bound import describe_bound
from keras_svag.studies.linear_scaling.cells import measure
from keras_svag.studies.linear_scaling.judge import (
    CLOSENESS,
    COMPARED,
    CRITERIA,
    FINAL_ACCURACY,
    limits_of,
    quantities_of,
    values_of,
)
from keras_svag.theory import correct_noise, judge_scaling
from keras_svag.theory.equilibrium.measurement import AUTO, GIVEN
from keras_svag.theory.outcomes import describe_observed, overall_outcome
from keras_svag.theory.verdicts.decision import name_of

# Default batch sizes of a sweep, as multiples of that of the recipe.
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
    """A study that measures how far batch size and learning rate can be scaled together.

    It trains the recipe at several batch sizes, with the hyperparameters scaled by the optimizer's
    rule, and compares R, B N and G, averaged over equilibrium, with those at the recipe's batch
    size (Li, Malladi, Arora 2021, arXiv 2102.12470, section 5). The base runs come first: the bound
    on the scaling factor that follows from their N/G is on disk before any other run starts.

    R is judged only where the loss is scale invariant; elsewhere it says nothing, unless it is the
    criterion.

    All other arguments are those of `keras_svag.studies.Study`.

    Args:
        recipe: A `keras_svag.Recipe`. Its batch size is the base.
        batch_sizes: Batch sizes of the sweep. Defaults to `None`: 1/2, 1, 2, ... 64 times that of
            the recipe, as long as a batch is at most a quarter of the training set and the
            optimizer's scaling rule allows it.
        criterion: Quantity that must agree with the base: `"closeness"` (R, B N and G within a
            factor `closeness`), `"weight_norm"` (R alone), `"test_accuracy"` (lower by at most
            `tolerance`) or `"test_error_ratio"` (test error at most `test_error_ratio` times as
            high, as in the paper). The last two need the metric `"accuracy"` and test data.
            Defaults to `"closeness"`.
        tolerance: Largest loss of test accuracy for which the rule still holds. Defaults to `0.02`.
        test_error_ratio: Largest ratio of test errors for which the rule still holds, a float > 1.
            Defaults to `1.2`.
        criteria: Further quantities that must agree: a dict from a column of `results.csv` to
            `{"ratio": C}` or `{"difference": d}`, such as `{"final_test_loss": {"ratio": 1.1}}`.
            Defaults to `None`.
        phase: `"auto"` to average from where drift ends, or `"config"` to average over `window`.
            Defaults to `"auto"`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> study = LinearScaling(recipe, batch_sizes=(8, 16), num_seeds=2)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_ell1_seed1', 'b16_ell1_seed0', 'b16_ell1_seed1']
    """

    batch_sizes: Sequence[int] | None = None
    criterion: str = CLOSENESS
    tolerance: float = 0.02
    test_error_ratio: float = 1.2
    criteria: Mapping[str, Mapping[str, float]] | None = None
    phase: str = AUTO

    name = "linear_scaling"
    title = "Scaling rule:"
    stage_names = ("base batch size", "other batch sizes")
    own_fields = (
        "batch_sizes", "criteria", "criterion", "phase", "test_error_ratio", "tolerance"
    )  # fmt: skip

    def validate(self):
        """Validates and sorts the grid; batch sizes default to multiples of the recipe's."""
        sizes = self._default_batch_sizes() if self.batch_sizes is None else self.batch_sizes
        sizes = sorted_values(
            f"{self.name}.batch_sizes", sizes, lambda size: positive_int("batch_size", size)
        )
        self._set("batch_sizes", sizes)
        one_of(f"{self.name}.criterion", self.criterion, CRITERIA)
        one_of(f"{self.name}.phase", self.phase, (AUTO, GIVEN))
        tolerance = finite_float(
            f"{self.name}.tolerance", self.tolerance, "a number > 0", 0.0, exclusive=True
        )
        self._set("tolerance", tolerance)
        name = f"{self.name}.test_error_ratio"
        ratio = finite_float(name, self.test_error_ratio, "a number > 1", 1.0, exclusive=True)
        self._set("test_error_ratio", ratio)
        parse_criteria(self.criteria)

    def _default_batch_sizes(self):
        base, largest = self.base_batch_size, self.facts.num_train / 4
        allowed = float("inf")
        if isinstance(self.recipe, Recipe):
            allowed = max_kappa(self.recipe.svag, self.facts.rule) * base
        sizes = [round(base * factor) for factor in FACTORS if base * factor >= 1]
        return [b for b in sizes if b == base or b <= largest and b < allowed]

    @property
    def base_batch_size(self) -> int:
        """Batch size of the recipe, with which all others are compared."""
        return self.facts.batch_size

    def specs(self, plan):
        """Returns the runs of every seed and batch size, including the base."""
        return [
            self.make_spec(batch_size, seed=seed)
            for batch_size in sorted({self.base_batch_size, *(self.batch_sizes or ())})
            for seed in range(self.num_seeds)
        ]

    def stages(self, specs):
        """Returns the base runs, then all others."""
        base = [spec for spec in specs if spec.batch_size == self.base_batch_size]
        return [base, [spec for spec in specs if spec not in base]]

    def on_stage(self, index, specs, results, workdir):
        """Writes `prediction.json` when the base runs are finished."""
        if index == 0:
            base = measure(self, specs, results, workdir)
            values_of(base, self.quantities())  # fails here rather than after all runs
            # Left alone if unchanged: its date shows that it came before the other runs.
            records.update_json(workdir / "prediction.json", verdict.predict(self, base))

    def check(self):
        """Raises an error if some run could not start, or has no noise to scale."""
        check_is_random(self.facts.sampling)
        super().check()
        for batch_size in {self.base_batch_size, *(self.batch_sizes or ())}:
            correct_noise(1.0, batch_size, self.facts.num_train, self.facts.sampling)

    @staticmethod
    def describe_seeds(setting):
        """Formats the number of finished runs, as "3 of 4" if some failed."""
        finished, failed = setting["num_seeds"], setting["failed"]
        return f"{finished} of {finished + failed}" if failed else f"{finished}"

    def quantities(self):
        """Returns the names of what must agree."""
        return quantities_of(self)

    def decide(self, base, other, look):
        """Returns the `ScalingVerdict` on a batch size; a subclass may override the rule."""
        limits = {name: limit for name, limit in limits_of(self).items() if name in base}
        return judge_scaling(base, other, self.closeness, look=look, criteria=limits)

    def correction(self, details):
        """Describes how intervals account for several looks and quantities."""
        look = max((s["look"] for s in details["settings"] if s["look"]), default=1)
        count = len(self.quantities())
        corrected = f" Differences are Bonferroni-corrected for {count} quantities."
        return describe_look(look) + (corrected if count > 1 else "")

    def ratio_titles(self):
        """Returns the column headings of the report's comparison with the base."""
        limits = limits_of(self)
        further = {name: limits[name].kind for name in self.quantities() if name not in COMPARED}
        if further.get(FINAL_ACCURACY) == "difference":
            del further[FINAL_ACCURACY]  # the loss of test accuracy has a column of its own
        return {name: f"{TITLES[name]} ratio" for name in COMPARED} | {
            name: f"{name_of(name)} {kind}" for name, kind in further.items()
        }

    def evaluate(self, specs, results, workdir):
        """Returns the dict of `verdict.json` and the rows of `results.csv`."""
        sizes = sorted({spec.batch_size for spec in specs})
        cells = [
            measure(self, [s for s in specs if s.batch_size == size], results, workdir)
            for size in sizes
        ]
        details = verdict.build_verdict(self, cells, workdir)
        return details, [row for cell in cells for row in cell.rows]

    def can_judge(self, specs):
        """Returns True if there are base runs, which all others are compared with."""
        return any(spec.batch_size == self.base_batch_size for spec in specs)

    def verdict_of(self, details):
        """Returns "fails" if any larger batch size fails, "holds" if all hold."""
        return overall_outcome(details["settings"])

    def figures(self, table, details, workdir):
        """Returns where the rule holds, and the curves."""
        return figures.build_figures(self, table, details, workdir)

    def recommend(self, details):
        """Returns sentences on what to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Returns the column headings of the settings in the report."""
        return {**TITLES, **end_titles(table)}

    def describe_bound(self, details):
        """Returns "at most" or "about", and sentences on what the predicted kappa is worth."""
        return describe_bound(self.facts, records.to_json(details))

    def describe_outlook(self, details):
        """Says up to which kappa training is known to stay the same."""
        return f"{describe_observed(details['observed_max_kappa'])} so far"

    def format_table(self, details):
        """Formats the settings, the prediction and what was observed for the terminal."""
        details = records.to_json(details)
        ends = end_quantities(details["settings"])
        columns = ("scaled_noise", "gradient_signal", "noise_to_signal", "weight_norm", *ends)
        header = ("B", "kappa", "seeds", "B N", "G", "N/G", "R")
        rows = [(*header, *(e.replace("_", " ") for e in ends), "identity", "outcome")]
        for setting in details["settings"]:
            cell = (
                f"{setting['batch_size']}",
                f"{setting['kappa']:g}",
                self.describe_seeds(setting),
            )
            values = (*(setting.get(name) for name in columns), setting["equilibrium"]["identity"])
            rows.append((*cell, *map(format_interval, values), setting["outcome"]))
        text = []
        for form, bound in details["predicted_max_kappa"].items():
            text.append(f"Predicted largest kappa ({form}): {format_interval(bound)}")
        text += self.describe_bound(details)[1]
        text.append(f"Observed: {describe_observed(details['observed_max_kappa'])}")
        text.append(details["comparison"]["reason"])
        if sizes := details["not_in_equilibrium"]:
            sizes = ", ".join(map(str, sizes))
            text.append(f"Equilibrium not reached at B = {sizes}: means over the window given.")
        return Sheet(rows, "\n".join(text))
