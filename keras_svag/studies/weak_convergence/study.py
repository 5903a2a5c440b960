"""The study "how fast does SVAG(l) tend to its SDE?": weak errors against l and their order.

Theorem 4.3 of Li, Malladi, Arora 2021 (arXiv 2102.12470): for a fixed time horizon the error of
expectations is O(1/l).
"""

import dataclasses

from keras_svag._checks import as_list, finite_float, positive_int, sorted_values
from keras_svag.engine.spec import GAUSSIAN, SVAG
from keras_svag.studies.base.checks import require_plain_sgd
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.table import failed_runs
from keras_svag.studies.weak_convergence import figures, recommendations
from keras_svag.studies.weak_convergence.linear_errors import exact_errors, kept_errors
from keras_svag.studies.weak_convergence.network_errors import TITLES, network_errors
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.outcomes import FAILS, HOLDS, INCONCLUSIVE

LISTS_OF_ELLS = ("ells", "linear_ells", "simulated_ells")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeakConvergence(Study):
    """How fast does SVAG(l) tend to its SDE? Weak errors against l, and their order.

    Theorem 4.3 of Li, Malladi, Arora 2021 (arXiv 2102.12470) says order 1: errors halve when l
    doubles. Three problems: (i) a linear one by exact moments, (ii) the same by simulation through
    the real train step, (iii) the recipe against Euler-Maruyama, over a short horizon.

    Args:
        recipe: a `keras_svag.Recipe` with SGD without momentum.
        ells: amplifications of the recipe. Defaults to `(1, 2, 4, 8)`.
        noise_steps: two numbers of Euler-Maruyama steps per effective step, to extrapolate from, at
            least twice the largest ell. Defaults to `None`: 4 and 8 times the largest ell.
        linear_a, linear_b: the table of losses `a x^2 / 2 + b x`.
        linear_learning_rate, linear_start, linear_horizon: learning rate, start and number of
            effective steps of the linear problem.
        linear_ells: amplifications of the exact moments.
        simulated_ells: amplifications of the simulation.
        num_chains: independent copies in the simulation. Defaults to `100_000`.
        **kwargs: see `keras_svag.studies.Study`; `num_seeds` defaults to `64`.

    Raises:
        ValueError: if an argument is out of range, or the optimizer is not SGD without momentum.
    """

    ells: tuple = (1.0, 2.0, 4.0, 8.0)
    noise_steps: tuple | None = None
    linear_a: tuple = (0.5, 1.5, 1.0, 2.0)
    linear_b: tuple = (1.0, -1.0, 0.5, 0.2)
    linear_learning_rate: float = 0.5
    linear_start: float = 1.5
    linear_horizon: int = 8
    linear_ells: tuple = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
    simulated_ells: tuple = (4.0, 8.0, 16.0, 32.0)
    num_chains: int = 100_000
    num_seeds: int = 64
    num_records: int = 4
    num_checkpoints: int = 1
    window: tuple = (0.0, 1.0)

    name = "weak_convergence"
    title = "Weak convergence of order 1:"
    own_fields = (
        "ells",
        "linear_a",
        "linear_b",
        "linear_ells",
        "linear_horizon",
        "linear_learning_rate",
        "linear_start",
        "noise_steps",
        "num_chains",
        "simulated_ells",
    )

    def validate(self):
        """Checks the three problems."""
        prefix = f"{self.name}."
        require_plain_sgd(self.facts, self.name)
        for name in LISTS_OF_ELLS:
            values = sorted_values(f"{prefix}{name}", getattr(self, name), validate_ell)
            self._set(name, values)
            if len(values) < 2:
                raise ValueError(
                    f"`{prefix}{name}` must have at least two values, to see an order. "
                    f"Received: {name}={values}"
                )
        for name in ("linear_horizon", "num_chains"):
            self._set(name, positive_int(f"{prefix}{name}", getattr(self, name)))
        for name in ("linear_a", "linear_b"):
            values = as_list(getattr(self, name))
            values = [finite_float(f"{prefix}{name}", v, "finite numbers") for v in values]
            self._set(name, values)
        if len(self.linear_a) != len(self.linear_b):
            raise ValueError(
                f"`{prefix}linear_b` must be as long as linear_a, {len(self.linear_a)}. "
                f"Received: linear_b={self.linear_b}"
            )
        for name in ("linear_learning_rate", "linear_start"):
            self._set(name, finite_float(f"{prefix}{name}", getattr(self, name), "a finite number"))
        self._validate_noise_steps(prefix)

    def _validate_noise_steps(self, prefix):
        largest = self.ells[-1]
        steps = (4 * largest, 8 * largest) if self.noise_steps is None else self.noise_steps
        steps = sorted_values(
            f"{prefix}noise_steps",
            steps,
            lambda m: finite_float("noise_steps", m, "numbers >= 1", 1.0),
        )
        if len(steps) != 2 or steps[0] < 2 * largest:
            raise ValueError(
                f"`{prefix}noise_steps` must be two numbers, to extrapolate from, of at least "
                f"twice the largest ell, {largest:g}: at m = l both have the same mean and "
                f"covariance. Received: noise_steps={steps}. Take them much larger."
            )
        self._set("noise_steps", steps)

    def specs(self, num_seeds):
        """The network's runs: SVAG at each ell, and many Gaussian steps, over the same seeds."""
        methods = [(ell, SVAG) for ell in self.ells]
        methods += [(m, GAUSSIAN) for m in self.noise_steps]
        return [
            self.make_spec(self.facts.batch_size, ell, seed, method)
            for ell, method in methods
            for seed in range(self.num_seeds)
        ]

    def evaluate(self, specs, results, workdir):
        """The dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        details = {
            "study": self.name,
            "exact": exact_errors(self),
            "simulated": kept_errors(self, workdir),
            "network": network_errors(self, table, workdir),
            "failed_runs": failed_runs(table),
        }
        return details, table

    def verdict_of(self, details):
        """`"holds"` where every order that is resolved is 1, `"fails"` where one is not."""
        scores = [abs(score) for row in details["simulated"] for score in row["scores"]]
        orders = [row["order"] for row in details["network"] if row["order"] is not None]
        if max(scores, default=0.0) > recommendations.SUSPICIOUS_SCORE:
            return FAILS
        if not orders:
            return INCONCLUSIVE
        return HOLDS if all(order.ci_low <= 1 <= order.ci_high for order in orders) else FAILS

    def figures(self, table, details, workdir):
        """Weak errors against l."""
        return figures.build_figures(details)

    def recommend(self, details):
        """What to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Headings of the quantities of the network."""
        return TITLES

    def format_table(self, details):
        """The table that the trainer prints at its end."""
        lines = ["Linear problem, exact moments:"]
        for row in details["exact"]:
            scaled = ", ".join(f"{value:.4g}" for value in row["scaled_errors"])
            order = "-" if row["order"] is None else f"{row['order']:.3f}"
            lines.append(
                f"  {row['quantity']}: order {order}; "
                f"l e(l) = {scaled} -> {row['leading_error']:.4g}"
            )
        lines.append("Linear problem, real train step:")
        for row in details["simulated"]:
            scores = ", ".join(f"{score:+.2f}" for score in row["scores"])
            lines.append(
                f"  {row['quantity']}: slope {_text(row['slope'])} "
                f"(exact {row['exact_slope']:.3f}); "
                f"standard errors from the exact recursion: {scores}"
            )
        lines.append("Network:")
        for row in details["network"]:
            errors = ", ".join(_text(error) for error in row["errors"])
            order = "not resolved" if row["order"] is None else _text(row["order"])
            lines.append(f"  {row['quantity']}: order {order}; errors {errors}")
        return "\n".join(lines)


def _text(interval):
    return f"{interval.mean:.4g} [{interval.ci_low:.3g}, {interval.ci_high:.3g}]"
