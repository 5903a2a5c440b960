"""The study "is the shape of the noise needed?": SGD against Gaussian noise of its covariance.

Li, Malladi, Arora 2021 (arXiv 2102.12470): SGD is compared with noisy gradient descent (NGD), the
full gradient with Gaussian noise of the same covariance. For l > 1 three more methods share mean
and covariance of their moves and differ in the shape of the noise alone: SVAG(l), Gaussian noise
with l steps per unit of time (Euler-Maruyama), and SGD at a batch size and learning rate l times
smaller.
"""

import dataclasses

from keras_svag._checks import as_list, finite_float, positive_int, sorted_values
from keras_svag.report.text import align
from keras_svag.studies.base.checks import require_plain_sgd
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.titles import end_titles
from keras_svag.studies.noisy_gradient_descent import arms, figures, recommendations, verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyGradientDescent(Study):
    """Is the shape of the gradient noise needed? SGD against Gaussian noise of its covariance.

    Trains the recipe by SGD and by noisy gradient descent (full gradient plus Gaussian noise of the
    same covariance), and for each m > 1 of `noise_steps` by SVAG(m), m Gaussian steps per unit of
    time and SGD at a batch size m times smaller, and shows by equivalence tests which agree (Li,
    Malladi, Arora 2021, arXiv 2102.12470). SGD without momentum, no batch norm, no augmentation.

    Args:
        recipe: a `keras_svag.Recipe`.
        batch_sizes: batch sizes B. Defaults to `None`: that of the recipe.
        margins: for each batch size, the relative difference that counts as none, in (0, 1).
            Defaults to `(0.05,)`.
        noise_steps: numbers m >= 1 of Gaussian steps per effective step, 1 among them. Defaults to
            `(1,)`.
        **kwargs: see `keras_svag.studies.Study`; `num_seeds` defaults to `48`.

    Raises:
        ValueError: if an argument is out of range, or the optimizer is not SGD without momentum.

    Example:

    >>> study = NoisyGradientDescent(recipe, num_seeds=2)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_ell1_seed1', 'b8_gauss1_seed0', 'b8_gauss1_seed1']
    """

    batch_sizes: tuple | None = None
    margins: tuple = (0.05,)
    noise_steps: tuple = (1.0,)
    num_seeds: int = 48

    name = "noisy_gradient_descent"
    title = "SGD against noisy gradient descent:"
    own_fields = ("batch_sizes", "margins", "noise_steps", "num_seeds")

    def validate(self):
        """Checks the grid; batch sizes default to the recipe's."""
        prefix = f"{self.name}."
        require_plain_sgd(self.facts, self.name)
        sizes = self.facts.batch_size if self.batch_sizes is None else self.batch_sizes
        sizes = [positive_int(f"{prefix}batch_sizes", size) for size in as_list(sizes)]
        self._set("batch_sizes", sizes)
        steps = sorted_values(
            f"{prefix}noise_steps",
            self.noise_steps,
            lambda m: finite_float("noise_steps", m, "numbers >= 1", 1.0),
        )
        self._set("noise_steps", steps)
        margins = [
            finite_float(f"{prefix}margins", margin, "numbers in (0, 1)", 0.0, exclusive=True)
            for margin in as_list(self.margins)
        ]
        self._set("margins", margins)
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

    def specs(self, num_seeds):
        """The runs of all methods, each once."""
        every = [spec for arm in arms.build_arms(self) for spec in arm["specs"]]
        return list({spec.name: spec for spec in every}.values())

    def evaluate(self, specs, results, workdir):
        """The dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        return verdict.build_verdict(self, arms.with_rows(self, table)), table

    def figures(self, table, details, workdir):
        """The curves of the methods, a figure for each batch size."""
        return figures.build_figures(arms.with_rows(self, table), table, workdir)

    def recommend(self, details):
        """What to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Headings of the report's table of settings."""
        metrics = [name for name in end_titles(table) if name != "train_loss"]
        return {**verdict.TITLES, **{n: f"{n.replace('_', ' ')} (end)" for n in metrics}}

    def format_table(self, details):
        """The table that the trainer prints at its end."""
        header = ("B", "first", "second", "quantity", "ratio", "90 % interval", "outcome", "power")
        lines = [header]
        for row in details["comparisons"]:
            ratio = row["ratio"]
            lines.append(
                (
                    f"{row['batch_size']}",
                    row["first"],
                    row["second"],
                    row["quantity"],
                    f"{ratio.mean:.3f}",
                    f"{ratio.ci_low:.3f} to {ratio.ci_high:.3f}",
                    row["outcome"],
                    f"{row['power']:.2f}",
                )
            )
        text = align(lines, left=True)
        for entry in details["verdicts"]:
            text += ["", f"Batch size {entry['batch_size']}: SGD and NGD are {entry['reason']}"]
        return "\n".join(text)
