"""`RunSpec`: one run of a study, as a value."""

import dataclasses

from keras_svag.theory import svag_steps

SVAG, GAUSSIAN = "svag", "gaussian"


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One run: a cell of a study's grid and a seed.

    Attributes:
        batch_size: B, examples in one half.
        learning_rate: peak learning rate eta of the SGD run that is modelled.
        ell: amplification.
        seed: decides initial weights and batches.
        total: length in effective steps.
        method: `"svag"`, or `"gaussian"` for full-batch steps with Gaussian noise, `ell` of them
            per effective step (1: noisy gradient descent; many: the SDE itself).
    """

    batch_size: int
    learning_rate: float
    ell: float
    seed: int
    total: int
    method: str = SVAG

    @property
    def name(self):
        """Folder name, such as `b8_ell2_seed0`."""
        kind = "ell" if self.method == SVAG else "gauss"
        return f"b{self.batch_size}_{kind}{self.ell:.12g}_seed{self.seed}"

    @property
    def program(self):
        """Key of the compiled program that does this run."""
        return self.method, self.batch_size

    def gradient_evaluations(self, num_train):
        """Cost of the run in gradients of batches of B examples."""
        return round(self.examples_per_step(num_train) * self.steps / self.batch_size)

    def examples_per_step(self, num_train):
        """Gradients of single examples in a step: two batches, or the whole training set."""
        return 2 * self.batch_size if self.method == SVAG else num_train

    @property
    def steps(self):
        """Number of SVAG steps."""
        return self.steps_until(self.total)

    def steps_until(self, effective_step):
        """Number of SVAG steps up to an effective step >= 1; at least one, also where ell < 1."""
        return max(1, svag_steps(effective_step, self.ell))

    def record_points(self, count):
        """Effective steps at which a row is recorded: at most `count`, evenly spaced.

        Args:
            count: wanted number of rows; fewer where the run is shorter.

        Returns:
            An increasing list of ints that ends with `total`, no two of them at the same step.
        """
        count = min(count, self.total)
        points = {max(1, round(i * self.total / count)) for i in range(1, count + 1)}
        # Where ell < 1 several points can fall on one step, of which the last stays.
        return sorted({self.steps_until(point): point for point in sorted(points)}.values())


def describe_cost(specs, num_train):
    """Cost of runs in words.

    Example:

    >>> describe_cost([RunSpec(8, 0.2, ell=2.0, seed=0, total=500)], num_train=1437)
    'To do: 1 run, 1,000 steps, 2,000 gradients of a batch, 16,000 examples.'
    """
    steps = sum(spec.steps for spec in specs)
    gradients = [spec.gradient_evaluations(num_train) for spec in specs]
    examples = sum(spec.batch_size * count for spec, count in zip(specs, gradients))
    return (
        f"To do: {len(specs)} run{'' if len(specs) == 1 else 's'}, {steps:,} steps, "
        f"{sum(gradients):,} gradients of a batch, {examples:,} examples."
    )
