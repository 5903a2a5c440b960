"""The study "is SGD well modelled by its SDE?".

Li, Malladi, Arora 2021 (arXiv 2102.12470), sections 4 and 5: SGD is compared with the limit of
SVAG(l), extrapolated from the two largest l.
"""

import dataclasses

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
    """Is SGD well modelled by its SDE? SGD against SVAG at growing amplification.

    Trains the recipe with each `ell` and seed, extrapolates SVAG to the SDE, and judges whether R,
    N and G of SGD, averaged over `window`, are within a factor `closeness` of it (Li, Malladi,
    Arora 2021, arXiv 2102.12470). Seeds are doubled while a verdict is inconclusive. The cost is
    `2 * num_seeds * sum(ells)` times that of the SGD run at each batch size.

    With Adam, AdamW and RMSprop the SDE is that of Malladi et al. (arXiv 2205.10287), whose
    preconditioner is the noise alone: `ell=1` differs from it by O(G/N) in each coordinate even
    where the method is right. With batch norm the loss itself depends on the batch size.

    Args:
        recipe: a `keras_svag.Recipe`.
        batch_sizes: batch sizes B to judge, hyperparameters scaled from those of the recipe.
            Defaults to `None`: the recipe's batch size.
        ells: amplifications, 1 among them. At least two larger ones are needed for a verdict.
            Defaults to `(1, 2, 4, 8)`.
        **kwargs: see `keras_svag.studies.Study`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> study = SDEValidity(recipe, batch_sizes=(8, 16), ells=(1, 2, 4), num_seeds=2)
    >>> len(study.specs({}))
    12
    """

    batch_sizes: tuple | None = None
    ells: tuple = (1.0, 2.0, 4.0, 8.0)

    name = "sde_validity"
    title = "SDE validity:"
    own_fields = ("batch_sizes", "ells")
    adds_seeds = True

    def validate(self):
        """Sorts the grid; batch sizes default to the recipe's."""
        sizes = self.facts.batch_size if self.batch_sizes is None else self.batch_sizes
        prefix = f"{self.name}."
        self._set(
            "batch_sizes",
            sorted_values(f"{prefix}batch_sizes", sizes, lambda b: positive_int("batch_size", b)),
        )
        self._set("ells", sorted_values(f"{prefix}ells", self.ells, validate_ell))
        if 1.0 not in self.ells:
            raise ValueError(
                "`sde_validity.ells` must contain 1, which is SGD itself. "
                f"Received: ells={self.ells}"
            )

    def first_seeds(self):
        """`num_seeds` at every batch size."""
        return dict.fromkeys(self.batch_sizes, self.num_seeds)

    def specs(self, num_seeds):
        """Every batch size with every ell and seed."""
        return [
            self.make_spec(batch_size, ell, seed)
            for batch_size in self.batch_sizes
            for ell in self.ells
            for seed in range(num_seeds.get(batch_size, self.num_seeds))
        ]

    def more_seeds(self, details, num_seeds):
        """Twice the seeds for batch sizes that seeds can still settle, within `max_num_seeds`."""
        return {
            entry["batch_size"]: min(2 * num_seeds[entry["batch_size"]], self.max_num_seeds)
            for entry in details["verdicts"]
            if entry["verdict"] == INCONCLUSIVE
            and entry["ratios"]
            and num_seeds[entry["batch_size"]] < self.max_num_seeds
        }

    def evaluate(self, specs, results, workdir):
        """The dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        return verdict.build_verdict(self, table), table

    def decide(self, sgd, limit, confidence):
        """The verdict rule: see `keras_svag.theory.judge`.

        Args:
            sgd: dict from quantity to one number per seed, of the runs in question.
            limit: the same of their SDE, extrapolated.
            confidence: of each interval.

        Returns:
            A `keras_svag.theory.Verdict`.
        """
        return judge(sgd, limit, self.closeness, confidence)

    def correction(self, details):
        """How intervals allow for several looks and quantities, in words."""
        looks = round((1 - CONFIDENCE) / (1 - details["confidence"]))
        allowed = f", which allows for {looks} looks at the data at 95 %" if looks > 1 else ""
        return (
            f"Intervals of {100 * details['confidence']:.3g} %{allowed}; differences are corrected "
            "for three quantities (Bonferroni)."
        )

    def figures(self, table, details, workdir):
        """The convergence in 1/ell, and the curves at each batch size."""
        return figures.build_figures(self, table, details, workdir)

    def recommend(self, details):
        """What to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Headings of the report's table of settings."""
        return {**WINDOW_TITLES, **end_titles(table)}

    def format_table(self, details):
        """The table that the trainer prints at its end."""
        columns = ("gradient_noise", "gradient_signal", "noise_to_signal", "weight_norm")
        settings = records.to_json(details["settings"])
        ends = end_quantities(settings)
        header = ("B", "ell", "seeds", "N", "G", "N/G", "R", *(e.replace("_", " ") for e in ends))
        lines = [header]
        for setting in settings:
            cells = [f"{setting['batch_size']}", f"{setting['ell']:g}", f"{setting['num_seeds']}"]
            values = (format_interval(setting.get(name)) for name in (*columns, *ends))
            lines.append((*cells, *values))
        text = align(lines)
        for entry in details["verdicts"]:
            seeds = f"{entry['num_seeds']} seeds"
            text += [
                "",
                f"Batch size {entry['batch_size']} ({seeds}): {entry['verdict']}. "
                f"{self.facts.title} {entry['reason']}",
            ]
        return "\n".join(text)
