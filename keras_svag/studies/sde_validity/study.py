"""The study "is SGD well modeled by its SDE?" of Li, Malladi, Arora 2021 (arXiv 2102.12470)."""

import dataclasses
from collections.abc import Sequence

from keras_svag._checks import positive_int, sorted_values
from keras_svag.engine.files import records
from keras_svag.report.text import align, format_interval
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.titles import WINDOW_TITLES, end_quantities, end_titles
from keras_svag.studies.sde_validity import figures, recommendations, verdict
from keras_svag.theory import CONFIDENCE, INCONCLUSIVE, judge
from keras_svag.theory.coefficients import validate_ell


@dataclasses.dataclass(frozen=True, kw_only=True)
class SDEValidity(Study):
    """A study that judges whether SGD is well modeled by its SDE.

    It trains the recipe by SVAG at each amplification `ell` and seed, extrapolates from the two
    largest `ell` to the SDE, and judges whether R, N and G of SGD (`ell=1`), averaged over
    `window`, are within a factor `closeness` of those of the SDE (Li, Malladi, Arora 2021, arXiv
    2102.12470, sections 4 and 5). The number of seeds is doubled while a verdict is inconclusive.
    Each batch size costs `2 * num_seeds * sum(ells)` times as much as one run of SGD.

    With Adam, AdamW and RMSprop the SDE is that of Malladi et al. 2022 (arXiv 2205.10287), which is
    preconditioned by the noise alone: `ell=1` differs from it by O(G/N) per coordinate even where
    the method is right. With batch norm each batch size has its own loss, hence its own SDE.

    All other arguments are those of `keras_svag.studies.Study`.

    Args:
        recipe: A `keras_svag.Recipe`.
        batch_sizes: Batch sizes B to judge. Hyperparameters are scaled from those of the recipe.
            Defaults to `None`, the batch size of the recipe.
        ells: Amplifications, among them 1. A verdict takes at least two larger ones. Defaults to
            `(1, 2, 4, 8)`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> study = SDEValidity(recipe, batch_sizes=(8, 16), ells=(1, 2, 4), num_seeds=2)
    >>> len(study.specs({}))
    12
    """

    batch_sizes: Sequence[int] | None = None
    ells: Sequence[float] = (1.0, 2.0, 4.0, 8.0)

    name = "sde_validity"
    title = "SDE validity:"
    own_fields = ("batch_sizes", "ells")
    adds_seeds = True

    def validate(self):
        """Validates and sorts the grid; batch sizes default to that of the recipe."""
        sizes = self.facts.batch_size if self.batch_sizes is None else self.batch_sizes
        sizes = sorted_values(
            f"{self.name}.batch_sizes", sizes, lambda size: positive_int("batch_size", size)
        )
        self._set("batch_sizes", sizes)
        self._set("ells", sorted_values(f"{self.name}.ells", self.ells, validate_ell))
        if 1.0 not in self.ells:
            raise ValueError(
                "`sde_validity.ells` must contain 1, which is SGD itself. "
                f"Received: ells={self.ells}"
            )

    def first_seeds(self):
        """Returns `num_seeds` for every batch size."""
        return dict.fromkeys(self.batch_sizes, self.num_seeds)

    def specs(self, num_seeds):
        """Returns the runs of every batch size, ell and seed."""
        return [
            self.make_spec(batch_size, ell, seed)
            for batch_size in self.batch_sizes
            for ell in self.ells
            for seed in range(num_seeds.get(batch_size, self.num_seeds))
        ]

    def more_seeds(self, details, num_seeds):
        """Doubles the seeds, up to `max_num_seeds`, where they can settle the verdict."""
        return {
            entry["batch_size"]: min(2 * num_seeds[entry["batch_size"]], self.max_num_seeds)
            for entry in details["verdicts"]
            if entry["verdict"] == INCONCLUSIVE
            and entry["ratios"]
            and num_seeds[entry["batch_size"]] < self.max_num_seeds
        }

    def evaluate(self, specs, results, workdir):
        """Returns the dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        return verdict.build_verdict(self, table), table

    def decide(self, sgd, limit, confidence):
        """Returns the `Verdict` on SGD against its SDE; a subclass may override the rule."""
        return judge(sgd, limit, self.closeness, confidence)

    def correction(self, details):
        """Describes how intervals account for several looks and quantities."""
        looks = round((1 - CONFIDENCE) / (1 - details["confidence"]))
        joint = f", so that all {looks} looks at the data together have 95 %" if looks > 1 else ""
        return (
            f"Intervals of {100 * details['confidence']:.3g} %{joint}; differences are "
            "Bonferroni-corrected for three quantities."
        )

    def figures(self, table, details, workdir):
        """Returns the convergence in 1/ell, and the curves at each batch size."""
        return figures.build_figures(self, table, details, workdir)

    def recommend(self, details):
        """Returns sentences on what to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Returns the column headings of the settings in the report."""
        return {**WINDOW_TITLES, **end_titles(table)}

    def format_table(self, details):
        """Formats the settings and the verdicts for the terminal."""
        settings = records.to_json(details["settings"])
        ends = end_quantities(settings)
        columns = ("gradient_noise", "gradient_signal", "noise_to_signal", "weight_norm", *ends)
        rows = [("B", "ell", "seeds", "N", "G", "N/G", "R", *(e.replace("_", " ") for e in ends))]
        for setting in settings:
            cell = (f"{setting['batch_size']}", f"{setting['ell']:g}", f"{setting['num_seeds']}")
            rows.append((*cell, *(format_interval(setting.get(name)) for name in columns)))
        text = align(rows)
        for entry in details["verdicts"]:
            text += [
                "",
                f"Batch size {entry['batch_size']} ({entry['num_seeds']} seeds): "
                f"{entry['verdict']}. {self.facts.title} {entry['reason']}",
            ]
        return "\n".join(text)
