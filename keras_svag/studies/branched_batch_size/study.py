"""The study "up to which batch size does training go on as before?", by branching.

Merrill et al. 2025 (arXiv 2505.23971) measure the critical batch size so: from a checkpoint, train
on at several batch sizes, and take the largest one whose loss is that of the original run.
"""

import dataclasses
from collections.abc import Sequence
from typing import cast

from keras_svag._checks import finite_float, positive_int, sorted_values
from keras_svag.engine.files import records
from keras_svag.engine.spec import BRANCH, BranchSpec
from keras_svag.optimizers.scaling import max_kappa
from keras_svag.optimizers.state import check_can_grow
from keras_svag.recipe import Recipe
from keras_svag.report.text import Sheet, format_interval
from keras_svag.studies.base.checks import check_is_random
from keras_svag.studies.base.looks import describe_look
from keras_svag.studies.base.study import Study
from keras_svag.studies.branched_batch_size import figures, recommendations, verdict
from keras_svag.theory import correct_noise
from keras_svag.theory.outcomes import describe_observed, overall_outcome

# Default factors on the batch size.
MIN_STEPS = 4  # of a branch
FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0)
TITLES = {"smoothed_loss": "loss of the branch", "loss_ratio": "over that at factor 1"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BranchedBatchSize(Study):
    """A study that measures how far the batch size of a run can be raised in the middle of it.

    It trains the recipe up to a branch point, once for each seed. From this checkpoint it trains on
    at several batch sizes, for the same number of examples, with the hyperparameters scaled by the
    optimizer's rule, schedules in effective time, and the state of the optimizer carried over. The
    critical factor is the largest one whose loss is at most `1 + tolerance` times that of the
    branch at the batch size of the recipe (Merrill et al. 2025, arXiv 2505.23971). Beside it
    stands what `BatchSizeAdvisor` says at the branch point: `C^2 + (C^2 - 1) N/G`.

    The loss of a branch is `train_loss`, averaged over its records without the first part,
    `recovery`. Right after the branch the loss still has the fluctuations of the old batch size,
    and the averages of the optimizer those of its gradients.

    To branch from a checkpoint of a training of your own, let the `model` of the recipe load it,
    one file for each seed, and use a small `branch_at`, so that the optimizer has a state:

    ```python
    def build(seed):
        return keras.saving.load_model(f"seed{seed}.keras", compile=False)
    ```

    All other arguments are those of `keras_svag.studies.Study`; `window` is a part of the run up to
    the branch point, over which N and G are averaged if no equilibrium is found there.

    Args:
        recipe: A `keras_svag.Recipe`. Its batch size is the base.
        factors: Factors kappa on the batch size, besides 1. Defaults to `None`: 2, 4, ... 32, as
            long as a batch is at most a quarter of the training set and the optimizer's scaling
            rule allows it.
        branch_at: Branch point, a fraction of the run in (0, 1). Defaults to `0.5`.
        num_examples: Examples to train on in each branch, rounded to whole steps. Defaults to
            `None`, a fifth of those of the run.
        recovery: Part of a branch that is left out of its loss, in [0, 1). Defaults to `0.5`.
        tolerance: Largest relative excess of the loss, a float > 0. It needs a loss > 0: else no
            branch is judged. Defaults to `0.1`.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> study = BranchedBatchSize(recipe, factors=[2], num_examples=64, num_seeds=1)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_branch1_seed0', 'b16_branch1_seed0']
    """

    factors: Sequence[float] | None = None
    branch_at: float = 0.5
    num_examples: int | None = None
    recovery: float = 0.5
    tolerance: float = 0.1

    name = "branched_batch_size"
    title = "Branches:"
    stage_names = ("up to the branch point", "branches")
    own_fields = ("branch_at", "factors", "num_examples", "recovery", "tolerance")

    def validate(self):
        """Validates the branches and sorts the factors, with 1 among them."""
        self._set("branch_at", self._fraction("branch_at", exclusive=True))
        examples = self._checked_examples()
        self._set("num_examples", examples)
        factors = self._default_factors(examples) if self.factors is None else self.factors
        factors = sorted_values(f"{self.name}.factors", factors, self._check_factor)
        self._set("factors", tuple(sorted({1.0, *factors})))
        if self.factors == (1.0,):
            raise ValueError(
                f"`{self.name}.factors` must hold a factor besides 1. Received: factors={factors}"
            )
        self._set("recovery", self._fraction("recovery"))
        tolerance = finite_float(
            f"{self.name}.tolerance", self.tolerance, "a number > 0", 0.0, exclusive=True
        )
        self._set("tolerance", tolerance)
        self._check_steps(max(factors), examples)

    def _checked_examples(self):
        size = self.base_batch_size
        left = (self.facts.steps_at(size) - self.base_steps) * size
        examples = self.facts.steps_at(size) * size // 5
        if self.num_examples is not None:
            examples = positive_int(f"{self.name}.num_examples", self.num_examples)
        if examples > left:
            raise ValueError(
                f"`{self.name}.num_examples` must be at most {left}, those of the run after the "
                f"branch point. Received: num_examples={examples}, branch_at={self.branch_at}. Use "
                "fewer examples, or an earlier branch point."
            )
        return examples

    def _check_steps(self, factor, examples):
        largest = round(factor * self.base_batch_size)
        if examples < MIN_STEPS * largest:
            # Rounded to whole steps, branches would not see the same number of examples.
            raise ValueError(
                f"`{self.name}.factors` must leave at least {MIN_STEPS} steps of the largest "
                f"batch. Received: a largest batch of {largest}, and branches of "
                f"{examples} examples. Use smaller factors, or more num_examples."
            )

    def _check_factor(self, factor):
        name = f"{self.name}.factors"
        factor = finite_float(name, factor, "numbers > 0", 0.0, exclusive=True)
        size = factor * self.base_batch_size
        if abs(size - round(size)) > 1e-6 or round(size) < 1:
            raise ValueError(
                f"`{name}` must give whole batch sizes from {self.base_batch_size}, that of the "
                f"recipe. Received: factors with {factor:g}, a batch size of {size:g}"
            )
        return factor

    def _fraction(self, field, exclusive=False):
        name, value = f"{self.name}.{field}", getattr(self, field)
        what = f"a number in {'(' if exclusive else '['}0, 1)"
        value = finite_float(name, value, what, 0.0, exclusive=exclusive)
        if value >= 1:
            raise ValueError(f"`{name}` must be {what}. Received: {field}={value}")
        return value

    def _default_factors(self, examples):
        allowed, base = float("inf"), self.base_batch_size
        if isinstance(self.recipe, Recipe):
            allowed = max_kappa(self.recipe.svag, self.facts.rule)
        largest = min(self.facts.num_train / 4, examples / MIN_STEPS) / base
        return [f for f in FACTORS if f <= largest and f < allowed]

    @property
    def mutable_fields(self):
        """Returns what may change on a workdir: more factors, and how branches are judged."""
        return tuple(f"{self.name}.{field}" for field in ("factors", "recovery", "tolerance"))

    @property
    def base_batch_size(self) -> int:
        """Batch size of the recipe."""
        return self.facts.batch_size

    @property
    def base_steps(self) -> int:
        """Steps up to the branch point."""
        total = self.facts.steps_at(self.base_batch_size)
        return min(max(1, round(self.branch_at * total)), max(1, total - 1))

    def specs(self, plan):
        """Returns the runs up to the branch point, then all branches."""
        seeds, factors = range(self.num_seeds), cast(tuple, self.factors)
        base = [self._base_spec(seed) for seed in seeds]
        return base + [self._branch(factor, seed) for factor in factors for seed in seeds]

    def _base_spec(self, seed):
        spec = self.make_spec(self.base_batch_size, seed=seed)
        return dataclasses.replace(spec, total=self.base_steps)

    def _branch(self, factor, seed):
        base = self._base_spec(seed)
        size = round(factor * base.batch_size)
        return BranchSpec(
            batch_size=size,
            learning_rate=self.facts.learning_rate_at(size),
            ell=1.0,
            seed=seed,
            total=max(1, round(cast(int, self.num_examples) / size)),
            base_batch_size=base.batch_size,
            base_learning_rate=base.learning_rate,
            base_total=base.total,
        )

    def stages(self, specs):
        """Returns the runs up to the branch point, then all branches."""
        return [[s for s in specs if (s.method == BRANCH) == is_branch] for is_branch in (0, 1)]

    def on_stage(self, index, specs, results, workdir):
        """Writes `prediction.json` at the branch point."""
        if index == 0:
            prediction = verdict.predict(self, verdict.measure(self, specs, results, workdir))
            # Left alone if unchanged: its date shows that it came before the branches.
            records.update_json(workdir / "prediction.json", prediction)

    def check(self):
        """Raises an error if some run could not start, or has no noise to scale."""
        check_is_random(self.facts.sampling)
        super().check()
        check_can_grow(cast(Recipe, self.recipe).svag)
        for factor in cast(tuple, self.factors):
            size = round(factor * self.base_batch_size)
            correct_noise(1.0, size, self.facts.num_train, self.facts.sampling)

    def can_judge(self, specs):
        """Returns True if there is a branch at the base batch size, and the run before it."""
        branches = [s for s in specs if s.method == BRANCH]
        return len(branches) < len(specs) and any(s.kappa == 1 for s in branches)

    def evaluate(self, specs, results, workdir):
        """Returns the dict of `verdict.json` and the rows of `results.csv`."""
        base, branches = self.stages(specs)
        before = verdict.measure(self, base, results, workdir)
        rows = verdict.measure_branches(self, branches, results, workdir)
        # Branches first: `compare` plots the runs of the first row.
        return verdict.build_verdict(self, before, rows, workdir), [*rows, *before.rows]

    def verdict_of(self, details):
        """Returns "fails" if any larger batch size fails, "holds" if all hold."""
        return overall_outcome(details["settings"])

    def correction(self, details):
        """Describes how intervals account for several looks."""
        return describe_look(max((s["look"] for s in details["settings"] if s["look"]), default=1))

    def figures(self, table, details, workdir):
        """Returns the loss against the factor, and the curves."""
        return figures.build_figures(self, table, details, workdir)

    def recommend(self, details):
        """Returns sentences on what to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Returns the column headings of the settings in the report."""
        return TITLES

    def describe_outlook(self, details):
        """Says up to which kappa training is known to stay the same."""
        return f"{describe_observed(details['observed_max_kappa'])} so far"

    def format_table(self, details):
        """Formats the branches, the measured factor and the bound for the terminal."""
        details = records.to_json(details)
        rows = [("B", "kappa", "learning rate", "steps", "seeds", "loss", "ratio", "outcome")]
        for s in details["settings"]:
            failed = f" ({s['failed']} failed)" if s["failed"] else ""
            cell = (f"{s['batch_size']}", f"{s['kappa']:g}", f"{s['learning_rate']:.4g}")
            values = (format_interval(s.get(name)) for name in TITLES)
            rows.append(
                (*cell, f"{s['steps']}", f"{s['num_seeds']}{failed}", *values, s["outcome"])
            )
        factors = [
            f"Critical factor: {verdict.describe_interval(details['critical_factor'])}",
            f"Observed: {describe_observed(details['observed_max_kappa'])} "
            f"(loss at most {100 * self.tolerance:g} % higher)",
            "By N/G at the branch point, tight form: "
            f"{verdict.describe_interval(details['predicted_max_kappa']['tight'])}",
        ]
        return Sheet(rows, "\n".join(factors), details["comparison"]["reason"])
