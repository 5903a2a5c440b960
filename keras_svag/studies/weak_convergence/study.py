"""The study "how fast does SVAG converge to its SDE?" of Li, Malladi, Arora 2021."""

import dataclasses
import math
from collections.abc import Sequence

from keras_svag._checks import as_list, finite_float, positive_int, sorted_values
from keras_svag.engine.spec import GAUSSIAN, SVAG
from keras_svag.studies.base.checks import require_gaussian_model
from keras_svag.studies.base.study import Study
from keras_svag.studies.base.table import failed_runs
from keras_svag.studies.weak_convergence import figures, linear_errors, recommendations
from keras_svag.studies.weak_convergence.network_errors import (
    TITLES,
    is_resolved,
    network_errors,
    outcome_of,
    read_ends,
)
from keras_svag.theory.coefficients import validate_ell
from keras_svag.theory.outcomes import FAILS, HOLDS, INCONCLUSIVE


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeakConvergence(Study):
    """A study that measures the order at which SVAG converges to its SDE.

    By theorem 4.3 of Li, Malladi, Arora 2021 (arXiv 2102.12470) the error of expectations after a
    fixed time is O(1/ell): it halves when `ell` doubles. The study measures it on three problems: a
    linear one by exact moments, the same through the real train step, and the recipe against the
    Euler-Maruyama simulation of its SDE over a short horizon.

    All other arguments are those of `keras_svag.studies.Study`.

    Args:
        recipe: A `keras_svag.Recipe` with SGD without momentum and batches drawn with replacement.
        ells: Amplifications of the recipe. Defaults to `(1, 2, 4, 8)`.
        noise_steps: Two numbers of Euler-Maruyama steps per effective step, to extrapolate from, at
            least twice the largest ell. Defaults to `None`, 4 and 8 times the largest ell.
        linear_a: Curvatures a of the linear problem, whose examples have the losses
            `a x^2 / 2 + b x`. Defaults to `(0.5, 1.5, 1.0, 2.0)`.
        linear_b: Slopes b of the linear problem, as many as `linear_a`. Defaults to
            `(1.0, -1.0, 0.5, 0.2)`.
        linear_learning_rate: Learning rate of the linear problem. Defaults to `0.5`.
        linear_start: Initial x of the linear problem. Defaults to `1.5`.
        linear_horizon: Number of effective steps of the linear problem. Defaults to `8`.
        linear_ells: Amplifications for exact moments. Defaults to powers of 2 from 1 to 128.
        simulated_ells: Amplifications for the train step. Defaults to `(4, 8, 16, 32)`.
        num_chains: Number of independent copies of the linear problem to train. Defaults to
            `100_000`.
        num_seeds: Number of seeds per cell of the grid. Defaults to `64`.
        num_records: Number of rows to record per run. Defaults to `4`.
        num_checkpoints: Number of checkpoints per run. Defaults to `1`.
        window: Window of the means in `results.csv`, which the errors do not use. Defaults to
            `(0, 1)`.

    Raises:
        ValueError: If an argument is out of range, the optimizer is not SGD without momentum, or
            batches are not drawn with replacement.

    Example:

    >>> study = WeakConvergence(recipe, ells=(1, 2), num_seeds=1)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_ell2_seed0', 'b8_gauss8_seed0', 'b8_gauss16_seed0']
    """

    ells: Sequence[float] = (1.0, 2.0, 4.0, 8.0)
    noise_steps: Sequence[float] | None = None
    linear_a: Sequence[float] = (0.5, 1.5, 1.0, 2.0)
    linear_b: Sequence[float] = (1.0, -1.0, 0.5, 0.2)
    linear_learning_rate: float = 0.5
    linear_start: float = 1.5
    linear_horizon: int = 8
    linear_ells: Sequence[float] = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
    simulated_ells: Sequence[float] = (4.0, 8.0, 16.0, 32.0)
    num_chains: int = 100_000
    num_seeds: int = 64
    num_records: int = 4
    num_checkpoints: int = 1
    window: tuple[float, float] = (0.0, 1.0)

    name = "weak_convergence"
    title = "Weak convergence of order 1:"
    own_fields = ("ells", "noise_steps", "linear_ells", *linear_errors.SIMULATION_FIELDS)

    def validate(self):
        """Validates the three problems."""
        prefix = f"{self.name}."
        require_gaussian_model(self.facts, self.name)
        for name in ("ells", "linear_ells", "simulated_ells"):
            values = sorted_values(f"{prefix}{name}", getattr(self, name), validate_ell)
            if len(values) < 2:
                raise ValueError(
                    f"`{prefix}{name}` must have at least two values, to fit an order. "
                    f"Received: {name}={values}"
                )
            self._set(name, values)
        # Two chains at least, for an error of their mean.
        for name, minimum in (("linear_horizon", 1), ("num_chains", 2)):
            self._set(name, positive_int(f"{prefix}{name}", getattr(self, name), minimum))
        for name in ("linear_learning_rate", "linear_start"):
            self._set(name, finite_float(f"{prefix}{name}", getattr(self, name), "a finite number"))
        for name in ("linear_a", "linear_b"):
            values = as_list(getattr(self, name))
            values = [finite_float(f"{prefix}{name}", v, "finite numbers") for v in values]
            self._set(name, values)
        if len(self.linear_a) != len(self.linear_b):
            raise ValueError(
                f"`{prefix}linear_b` must be as long as linear_a, {len(self.linear_a)}. "
                f"Received: linear_b={self.linear_b}"
            )
        self._set("noise_steps", self._validated_noise_steps(f"{prefix}noise_steps"))

    def _validated_noise_steps(self, name):
        largest = self.ells[-1]
        steps = (4 * largest, 8 * largest) if self.noise_steps is None else self.noise_steps
        steps = sorted_values(
            name, steps, lambda m: finite_float("noise_steps", m, "numbers >= 1", 1.0)
        )
        # At m = ell, SVAG and Euler-Maruyama have the same mean and covariance.
        if len(steps) != 2 or steps[0] < 2 * largest:
            raise ValueError(
                f"`{name}` must be two numbers of at least twice the largest ell, {largest:g}. "
                f"Received: noise_steps={steps}. Use None for 4 and 8 times the largest ell."
            )
        return steps

    def specs(self, plan):
        """Returns the network's runs: SVAG and Gaussian steps, over the same seeds."""
        methods = [(ell, SVAG) for ell in self.ells]
        methods += [(m, GAUSSIAN) for m in self.noise_steps or ()]
        return [
            self.make_spec(self.facts.batch_size, ell, seed, method)
            for ell, method in methods
            for seed in range(self.num_seeds)
        ]

    def evaluate(self, specs, results, workdir):
        """Returns the dict of `verdict.json` and the rows of `results.csv`."""
        table = self.summarize(specs, results, workdir)
        last, not_finite = read_ends(table, workdir)
        details = {
            "study": self.name,
            "exact": linear_errors.exact_errors(self),
            "simulated": linear_errors.cached_errors(self, workdir),
            "network": network_errors(self, table, last),
            "failed_runs": failed_runs(table) | not_finite,
        }
        return details, table

    def verdict_of(self, details):
        """Returns `"holds"` if an order is shown to be near 1, `"fails"` if one is not near it."""
        scores = [abs(score) for row in details["simulated"] for score in row["scores"]]
        outcomes = [outcome_of(row["order"]) for row in details["network"]]
        is_suspicious = max(scores, default=0.0) > recommendations.SUSPICIOUS_SCORE
        if is_suspicious or FAILS in outcomes:
            return FAILS
        return HOLDS if HOLDS in outcomes and not details["failed_runs"] else INCONCLUSIVE

    def figures(self, table, details, workdir):
        """Returns the weak errors against ell."""
        return figures.build_figures(details)

    def recommend(self, details):
        """Returns sentences on what to do next."""
        return recommendations.recommend(self, details)

    def titles(self, table):
        """Returns the titles of the network's observables."""
        return TITLES

    def format_table(self, details):
        """Formats the orders and errors of the three problems for the terminal."""
        lines = ["Linear problem, exact moments:"]
        for row in details["exact"]:
            scaled = ", ".join(f"{value:.4g}" for value in row["scaled_errors"])
            order = "-" if row["order"] is None else f"{row['order']:.3f}"
            lines.append(
                f"  {row['quantity']}: order {order}; ell times error {scaled} -> "
                f"{row['leading_error']:.4g}"
            )
        lines.append("Linear problem, real train step:")
        for row in details["simulated"]:
            scores = ", ".join(f"{score:+.2f}" for score in row["scores"])
            lines.append(
                f"  {row['quantity']}: order {_describe_order(row)} (exact "
                f"{row['exact_order']:.3f}); {_describe_fit(row)}; standard errors from the exact "
                f"recursion {scores}"
            )
        lines.append("Network:")
        for row in details["network"]:
            errors = ", ".join(map(str, row["errors"]))
            lines.append(
                f"  {row['quantity']}: order {_describe_order(row)}; {_describe_fit(row)}; errors "
                f"{errors}"
            )
        return "\n".join(lines)


def _describe_order(row):
    small, large = row["ells"][-2:]
    note = "" if is_resolved(row["order"]) else ", not resolved"
    return f"{row['order']} from ell = {small:g} to {large:g}{note}"


def _describe_fit(row):
    fit = f"fit a/ell + b/ell^2 with a = {row['first']}, b = {row['second']}"
    lack = row["lack_of_fit"]
    return fit if lack is None or math.isnan(lack) else f"{fit}, lack of fit p = {lack:.2g}"
