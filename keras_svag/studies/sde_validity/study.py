"""The study "is SGD well modeled by its SDE?" of Li, Malladi, Arora 2021 (arXiv 2102.12470)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import cast

from keras_svag._checks import finite_float, one_of, positive_int, sorted_values
from keras_svag.engine.files import records
from keras_svag.engine.spec import SECOND_MOMENT, SVAG
from keras_svag.report.text import Sheet, format_interval
from keras_svag.studies.base.criteria import parse_criteria
from keras_svag.studies.base.looks import describe_look
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.wording import WINDOW_TITLES, end_quantities, end_titles
from keras_svag.studies.sde_validity import figures, recommendations, verdict
from keras_svag.theory import QUANTITIES, judge_sde
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.outcomes import so_far
from keras_svag.theory.quantities import WEIGHT_NORM
from keras_svag.theory.verdicts.sde import LARGER_ELL

# What the noise of the SDE shares with that of SGD, and the method of its runs.
NOISES = {"covariance": SVAG, "second_moment": SECOND_MOMENT}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SDEValidity(Study):
    """A study that judges whether SGD is well modeled by its SDE.

    It trains the recipe by SVAG at each amplification `ell` and seed, extrapolates from the
    largest `ell` to the SDE, and judges whether R, N and G of SGD (`ell=1`), averaged over
    `window`, are within a factor `closeness` of those of the SDE (Li, Malladi, Arora 2021, arXiv
    2102.12470, sections 4 and 5). While a verdict is inconclusive, the number of seeds is doubled,
    or a larger ell is added, whichever is likely to settle it. Each batch size costs
    `2 * num_seeds * sum(ells)` times as much as one run of SGD.

    R is judged only where the loss is scale invariant; elsewhere it says nothing.

    With Adam, AdamW and RMSprop the SDE is that of Malladi et al. 2022 (arXiv 2205.10287), which is
    preconditioned by the noise alone: `ell=1` differs from it by O(G/N) per coordinate even where
    the method is right. With batch norm each batch size has its own loss, hence its own SDE.

    All other arguments are those of `keras_svag.studies.Study`.

    Args:
        recipe: A `keras_svag.Recipe`.
        batch_sizes: Batch sizes B to judge. Hyperparameters are scaled from those of the recipe.
            Defaults to `None`, the batch size of the recipe.
        ells: Amplifications, among them 1. A verdict takes at least three larger ones. Defaults to
            `(1, 2, 4, 8)`.
        max_ell: Amplification up to which the study may add some, each twice as large, where the
            limit is not known well enough. Defaults to `None`, twice the largest of `ells`.
        noise: `"covariance"` for the SDE of SVAG, or `"second_moment"` for the SDE whose noise has
            the second moment of SGD's steps, `Sigma + grad L grad L^T`; for SGD without momentum.
            Defaults to `"covariance"`.
        criteria: Further quantities that must agree: a dict from a column of `results.csv` to
            `{"ratio": C}` or `{"difference": d}`, such as
            `{"final_test_accuracy": {"difference": 0.02}}`. Defaults to `None`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> study = SDEValidity(recipe, batch_sizes=(8, 16), ells=(1, 2, 4, 8), num_seeds=2)
    >>> len(study.specs({}))
    16
    """

    batch_sizes: Sequence[int] | None = None
    ells: Sequence[float] = (1.0, 2.0, 4.0, 8.0)
    max_ell: float | None = None
    noise: str = "covariance"
    criteria: Mapping[str, Mapping[str, float]] | None = None

    name = "sde_validity"
    title = "SDE validity:"
    own_fields = ("batch_sizes", "criteria", "ells", "max_ell", "noise")
    adds_seeds = True

    def validate(self):
        """Validates and sorts the grid; batch sizes default to that of the recipe."""
        sizes = self.facts.batch_size if self.batch_sizes is None else self.batch_sizes
        sizes = sorted_values(
            f"{self.name}.batch_sizes", sizes, lambda size: positive_int("batch_size", size)
        )
        self._set("batch_sizes", sizes)
        self._set("ells", sorted_values(f"{self.name}.ells", self.ells, validate_ell))
        largest = 2 * self.ells[-1] if self.max_ell is None else self.max_ell
        self._set("max_ell", finite_float(f"{self.name}.max_ell", largest, "a number", 1.0))
        parse_criteria(self.criteria)
        one_of(f"{self.name}.noise", self.noise, NOISES)
        if NOISES[self.noise] != SVAG and not self.facts.is_plain_sgd:
            raise ValueError(
                "`sde_validity.noise` must be 'covariance' unless the optimizer is SGD without "
                f"momentum. Received: noise={self.noise!r} with {self.facts.title}"
            )
        if 1.0 not in self.ells:
            raise ValueError(
                "`sde_validity.ells` must contain 1, which is SGD itself. "
                f"Received: ells={self.ells}"
            )

    def first_plan(self):
        """Returns `num_seeds` and `ells` for every batch size."""
        return {size: (self.num_seeds, self.ells) for size in self.batch_sizes or ()}

    def largest_plan(self):
        """Returns all seeds and ells that the study may come to."""
        ells = [*self.ells]
        while 2 * ells[-1] <= cast(float, self.max_ell):
            ells.append(2 * ells[-1])
        return {size: (self.max_num_seeds, tuple(ells)) for size in self.batch_sizes or ()}

    def specs(self, plan):
        """Returns the runs of every batch size, ell and seed."""
        return [
            # Up to ell = 1, which is SGD itself, there is nothing to amplify.
            self.make_spec(batch_size, ell, seed, NOISES[self.noise] if ell > 1 else SVAG)
            for batch_size, (num_seeds, ells) in (self.first_plan() | plan).items()
            for ell in ells
            for seed in range(num_seeds)
        ]

    def extend_plan(self, details, plan):
        """Doubles the seeds, or adds an ell, where that is likely to settle the verdict."""
        more = {}
        for entry in details["verdicts"]:
            num_seeds, ells = plan[entry["batch_size"]]
            if not entry["ratios"]:
                continue  # nothing to add to
            if entry["remedy"] == LARGER_ELL and 2 * ells[-1] <= self.max_ell:
                more[entry["batch_size"]] = (num_seeds, (*ells, 2 * ells[-1]))
            elif entry["remedy"] and num_seeds < self.max_num_seeds:
                more[entry["batch_size"]] = (min(2 * num_seeds, self.max_num_seeds), ells)
        return more

    def describe_outlook(self, details):
        """Says what is known at each batch size."""
        return "; ".join(
            f"B={v['batch_size']} {so_far(v['verdict'])}, {v['num_seeds']} seed"
            + "s" * (v["num_seeds"] > 1)
            for v in details["verdicts"]
            if v["num_seeds"]
        )

    def describe_extension(self, batch_size, before, after, details):
        """Says what is added at a batch size, why, and what it costs."""
        (old_seeds, old_ells), (num_seeds, ells) = before, after
        if ells != old_ells:
            what = f"ell = {ells[-1]:g} is added, since the limit is not known well enough"
            cost = num_seeds * ells[-1]
        else:
            [entry] = [v for v in details["verdicts"] if v["batch_size"] == batch_size]
            largest = f"max_ell={self.max_ell:g}"
            no_ell = f"{largest} allows no larger ell, although the limit calls for one"
            reason = no_ell if entry["remedy"] == LARGER_ELL else "they spread widely"
            what = f"{num_seeds} seeds now ({self.max_num_seeds} at most), since {reason}"
            cost = (num_seeds - old_seeds) * sum(ells)
        return (
            f"Batch size {batch_size} is inconclusive with {old_seeds} seeds and ell up to "
            f"{old_ells[-1]:g}: {what}. That costs as much as {2 * cost:g} runs of SGD."
        )

    def quantities(self):
        """Returns the names of what must agree: N and G, R if the loss is scale invariant."""
        names = [
            name for name in QUANTITIES if name != WEIGHT_NORM or self.facts.judges_weight_norm
        ]
        return [*names, *(name for name in self.criteria or {} if name not in names)]

    def evaluate(self, specs, results, workdir):
        """Returns the dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        return verdict.build_verdict(self, table, workdir), table

    def decide(self, values, look):
        """Returns the `SDEVerdict` on a batch size; a subclass may override the rule."""
        limits = parse_criteria(self.criteria)
        return judge_sde(values, self.closeness, look=look, criteria=limits)

    def correction(self, details):
        """Describes how intervals account for several looks and quantities."""
        looks = sorted({entry["look"] for entry in details["verdicts"]})
        return (
            f"{describe_look(looks[-1])} The tests for "
            f'"invalid" are Bonferroni-corrected for {len(self.quantities())} quantities.'
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
            failed = f" ({setting['failed']} failed)" if setting.get("failed") else ""
            cell = (f"{setting['batch_size']}", f"{setting['ell']:g}")
            values = (format_interval(setting.get(name)) for name in columns)
            rows.append((*cell, f"{setting['num_seeds']}{failed}", *values))
        verdicts = [
            f"Batch size {entry['batch_size']} ({entry['num_seeds']} seeds): "
            f"{entry['verdict']}. {self.facts.title} {entry['reason']}"
            for entry in details["verdicts"]
        ]
        return Sheet(rows, *verdicts)
