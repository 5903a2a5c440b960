"""Specification of one run of a study."""

import dataclasses

from keras_svag.theory import svag_steps

SVAG, GAUSSIAN, SECOND_MOMENT = "svag", "gaussian", "second_moment"
BRANCH = "branch"
# In the names of runs.
KINDS = {SVAG: "ell", GAUSSIAN: "gauss", SECOND_MOMENT: "second", BRANCH: "branch"}


@dataclasses.dataclass(frozen=True)
class RunSpec:
    """One run: a grid cell and a seed.

    `learning_rate` is the peak rate of the SGD run that is modeled, `total` the length in effective
    steps. `method` is `"svag"`; `"gaussian"` for full-batch steps with Gaussian noise, `ell` of
    them per effective step (1: noisy gradient descent; many: the SDE itself); or `"second_moment"`
    for SVAG's number of steps with noise that has the second moment of SGD's steps; or `"branch"`
    for a `BranchSpec`.
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

    @property
    def origin(self) -> "RunSpec | None":
        """The run at whose end this one starts; `None` for a run from initial weights."""
        return None

    @property
    def first_step(self):
        """Step of the schedule, and of the optimizer, at which the run starts."""
        return 0

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


@dataclasses.dataclass(frozen=True)
class BranchSpec(RunSpec):
    """A run that goes on where another one, its origin, ended, at another batch size.

    It starts with the weights and the optimizer state of the origin's last checkpoint. `base_total`
    and the other `base_` fields are those of the origin, which has the same seed and `ell`.
    """

    method: str = BRANCH
    base_batch_size: int = 1
    base_learning_rate: float = 0.0
    base_total: int = 1

    @property
    def program(self):
        """Key of the compiled program, that of any run at this batch size."""
        return SVAG, self.batch_size

    @property
    def origin(self):
        """The run at whose end this one starts."""
        base = (self.base_batch_size, self.base_learning_rate)
        return RunSpec(*base, self.ell, self.seed, self.base_total)

    @property
    def kappa(self):
        """Batch size over that of the origin."""
        return self.batch_size / self.base_batch_size

    @property
    def first_step(self):
        """Steps of this batch size, rounded, in which the origin saw its examples."""
        return round(self.steps_until(self.base_total) / self.kappa)


def describe_cost(specs, num_train, num_workers=None):
    """Describes the cost of runs in steps and examples, and on how many workers they are."""
    steps = sum(spec.steps for spec in specs)
    examples = sum(spec.steps * spec.examples_per_step(num_train) for spec in specs)
    plural = "" if num_workers == 1 else "s"
    workers = f" on {num_workers} worker{plural}" if num_workers else ""
    return (
        f"To do: {len(specs)} run{'' if len(specs) == 1 else 's'}{workers}, {steps:,} steps, "
        f"{examples:,} examples."
    )
