"""The study "does the shape of the gradient noise matter?" of Li, Malladi, Arora 2021.

SVAG(m), m steps of Gaussian noise and SGD at batch size and learning rate divided by m share the
mean and covariance of their moves per unit of time. They differ in the shape of the noise alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from keras_svag._checks import as_list, finite_float, one_of, positive_int, sorted_values
from keras_svag.report.text import Sheet
from keras_svag.studies.base.checks import require_gaussian_model
from keras_svag.studies.base.criteria import parse_criteria
from keras_svag.studies.base.looks import describe_look
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.wording import end_titles
from keras_svag.studies.noisy_gradient_descent import arms, figures, recommendations, verdict
from keras_svag.theory import judge_noisy_gradient_descent
from keras_svag.theory.outcomes import so_far


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyGradientDescent(Study):
    """A study that compares SGD with Gaussian noise of the same covariance.

    It trains the recipe by SGD and by noisy gradient descent (NGD: the full gradient plus Gaussian
    noise of the same covariance) and, for each m > 1 of `noise_steps`, by SVAG(m), by m Gaussian
    steps per effective step (Euler-Maruyama) and by SGD at a batch size m times smaller.
    Equivalence tests show which of them agree (Li, Malladi, Arora 2021, arXiv 2102.12470). The
    recipe must have SGD without momentum and batches drawn with replacement, and neither batch norm
    nor augmentation.

    All other arguments are those of `keras_svag.studies.Study`.

    Args:
        recipe: A `keras_svag.Recipe`.
        batch_sizes: Batch sizes B. Defaults to `None`, that of the recipe.
        margins: For each batch size, a float m > 0: ratios from `1/(1+m)` to `1+m` count as
            equivalent. Defaults to `(0.05,)`.
        noise_steps: Numbers m >= 1 of Gaussian steps per effective step, among them 1. Defaults to
            `(1,)`.
        second_moment: Whether to add, for each m > 1, runs whose noise has the second moment of
            SGD's steps instead of their covariance: gradients `(1 +- sqrt(m-1)) g` of one batch.
            Defaults to `False`.
        criteria: Further quantities that must agree, or other limits on some: a dict from a column
            of `results.csv` to `{"ratio": C}` or `{"difference": d}`, such as
            `{"final_test_accuracy": {"difference": 0.02}}`. Defaults to `None`.
        num_seeds: Number of seeds per cell of the grid. Defaults to `48`.

    Raises:
        ValueError: If an argument is out of range, the optimizer is not SGD without momentum, or
            batches are not drawn with replacement.

    Example:

    >>> study = NoisyGradientDescent(recipe, num_seeds=2)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_ell1_seed1', 'b8_gauss1_seed0', 'b8_gauss1_seed1']
    """

    batch_sizes: Sequence[int] | None = None
    margins: Sequence[float] = (0.05,)
    noise_steps: Sequence[float] = (1.0,)
    second_moment: bool = False
    criteria: Mapping[str, Mapping[str, float]] | None = None
    num_seeds: int = 48

    name = "noisy_gradient_descent"
    title = "SGD against noisy gradient descent:"
    own_fields = (
        "batch_sizes",
        "criteria",
        "margins",
        "noise_steps",
        "num_seeds",
        "second_moment",
    )

    def validate(self):
        """Validates the grid; batch sizes default to that of the recipe."""
        prefix = f"{self.name}."
        require_gaussian_model(self.facts, self.name)
        parse_criteria(self.criteria)
        one_of(f"{prefix}second_moment", self.second_moment, (False, True))
        sizes = self.facts.batch_size if self.batch_sizes is None else self.batch_sizes
        sizes = [positive_int(f"{prefix}batch_sizes", size) for size in as_list(sizes)]
        steps = sorted_values(
            f"{prefix}noise_steps",
            self.noise_steps,
            lambda m: finite_float("noise_steps", m, "numbers >= 1", 1.0),
        )
        margins = [
            finite_float(f"{prefix}margins", margin, "numbers > 0", 0.0, exclusive=True)
            for margin in as_list(self.margins)
        ]
        if steps[0] != 1:
            raise ValueError(
                f"`{prefix}noise_steps` must contain 1, which is SGD against NGD. "
                f"Received: noise_steps={steps}"
            )
        if len(margins) != len(sizes):
            raise ValueError(
                f"`{prefix}margins` must have one entry for each of the batch sizes {sizes}. "
                f"Received: margins={margins}"
            )
        self._set("batch_sizes", sizes)
        self._set("noise_steps", steps)
        self._set("margins", margins)

    def specs(self, plan):
        """Returns the runs of all methods, without duplicates."""
        specs = [spec for arm in arms.build_arms(self) for spec in arm["specs"]]
        return list({spec.name: spec for spec in specs}.values())

    def evaluate(self, specs, results, workdir):
        """Returns the dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        return verdict.build_verdict(self, arms.attach_rows(self, table), workdir), table

    def decide(self, first, second, margin, look):
        """Returns the `NoiseVerdict` on two methods; a subclass may override the rule."""
        limits = parse_criteria(self.criteria)
        return judge_noisy_gradient_descent(first, second, margin, look=look, criteria=limits)

    def correction(self, details):
        """Describes how intervals account for several looks and quantities."""
        look = max(entry["look"] for entry in details["verdicts"])
        return (
            f"{describe_look(look)} Differences are Bonferroni-corrected for the number of "
            "quantities."
        )

    def figures(self, table, details, workdir):
        """Returns the curves of the methods at each batch size."""
        return figures.build_figures(arms.attach_rows(self, table), table, workdir)

    def recommend(self, details):
        """Returns sentences on what to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Returns the column headings of the settings in the report."""
        metrics = {name: title for name, title in end_titles(table).items() if name != "train_loss"}
        return {**verdict.TITLES, **metrics}

    def describe_outlook(self, details):
        """Says what is known at each batch size."""
        return "; ".join(f"B={v['batch_size']} {so_far(v['verdict'])}" for v in details["verdicts"])

    def format_table(self, details):
        """Formats the comparisons and the verdicts for the terminal."""
        rows = [("B", "first", "second", "quantity", "ratio", "interval", "outcome")]
        for row in details["comparisons"]:
            ratio = row["ratio"]
            rows.append(
                (
                    f"{row['batch_size']}",
                    row["first"],
                    row["second"],
                    row["quantity"],
                    f"{ratio.mean:.3f}",
                    f"{ratio.ci_low:.3f} to {ratio.ci_high:.3f}",
                    row["outcome"],
                )
            )
        verdicts = [
            f"Batch size {entry['batch_size']}: SGD and NGD are {entry['reason']}"
            for entry in details["verdicts"]
        ]
        return Sheet(rows, *verdicts, left=True)
