"""Specification of one run of a study."""

import dataclasses

from keras_svag.theory import svag_steps

SVAG, GAUSSIAN, SECOND_MOMENT = "svag", "gaussian", "second_moment"
# In the names of runs.
KINDS = {SVAG: "ell", GAUSSIAN: "gauss", SECOND_MOMENT: "second"}


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One run: a grid cell and a seed.

    `learning_rate` is the peak rate of the SGD run that is modeled, `total` the length in effective
    steps. `method` is `"svag"`; `"gaussian"` for full-batch steps with Gaussian noise, `ell` of
    them per effective step (1: noisy gradient descent; many: the SDE itself); or `"second_moment"`
    for SVAG's number of steps with noise that has the second moment of SGD's steps.
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
        return f"b{self.batch_size}_{KINDS[self.method]}{self.ell:.12g}_seed{self.seed}"

    @property
    def program(self):
        """Key of the compiled program that executes this run."""
        return self.method, self.batch_size

    def gradient_evaluations(self, num_train):
        """Cost of the run in gradients of batches of B examples."""
        return round(self.examples_per_step(num_train) * self.steps / self.batch_size)

    def examples_per_step(self, num_train):
        """Example gradients per step: two batches, or the whole training set."""
        return num_train if self.method == GAUSSIAN else 2 * self.batch_size

    @property
    def steps(self):
        """Number of SVAG steps."""
        return self.steps_until(self.total)

    def steps_until(self, effective_step):
        """Number of SVAG steps up to an effective step >= 1; at least 1, even for `ell < 1`."""
        return max(1, svag_steps(effective_step, self.ell))

    def record_points(self, count):
        """Effective steps to record at: at most `count`, evenly spaced, the last one `total`."""
        count = min(count, self.total)
        points = {max(1, round(i * self.total / count)) for i in range(1, count + 1)}
        # For ell < 1 several points can share a step: keep the last.
        return sorted({self.steps_until(point): point for point in sorted(points)}.values())


def describe_cost(specs, num_train):
    """Describes the cost of runs in steps, gradients and examples."""
    steps = sum(spec.steps for spec in specs)
    gradients = [spec.gradient_evaluations(num_train) for spec in specs]
    examples = sum(spec.batch_size * count for spec, count in zip(specs, gradients))
    return (
        f"To do: {len(specs)} run{'' if len(specs) == 1 else 's'}, {steps:,} steps, "
        f"{sum(gradients):,} gradients of a batch, {examples:,} examples."
    )
