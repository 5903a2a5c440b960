"""Facts of a recipe: the numbers that verdicts rest on, without model and data."""

import dataclasses

from keras_svag._checks import LARGEST_INT
from keras_svag.theory.assumptions import DECAY_OF_ALL, paper_assumptions
from keras_svag.theory.scaling_rules import HEAVY_BALL, scale_decay_rate

SGD = "SVAG"


@dataclasses.dataclass(frozen=True)
class TrainingFacts:
    """Facts about a training run that its verdicts need; stored in `environment.json`.

    `optimizer` is the class name of the SVAG optimizer, such as `"SVAGAdam"`, and `momentum` that
    of SGD. Learning rate (the peak) and decoupled weight decay are those at `batch_size`, the base
    of the scaling rule; kappa times the batch size multiplies them by kappa to their `power`.
    `scale_invariant` and `independent_of_batch` (without batch norm) are `None` if unknown;
    `decays_all_weights` is False if weights are excluded from weight decay.
    """

    optimizer: str
    momentum: float
    rule: str
    learning_rate: float
    learning_rate_power: float
    weight_decay: float
    weight_decay_power: float
    batch_size: int
    epochs: float
    num_train: int
    sampling: str
    scale_invariant: bool | None = None
    independent_of_batch: bool | None = None
    decays_all_weights: bool = True

    @property
    def facts(self):
        """These facts, so that they can stand in for a recipe where nothing is trained."""
        return self

    @property
    def is_plain_sgd(self):
        """True for SGD without momentum, for which the theory is exact."""
        return self.optimizer == SGD and not self.momentum

    @property
    def title(self):
        """Display name of the optimizer: "SGD", "SGD with momentum", "AdamW"."""
        if self.optimizer == SGD:
            return "SGD with momentum" if self.momentum else "SGD"
        return self.optimizer.removeprefix("SVAG")

    @property
    def judges_weight_norm(self):
        """False if the loss is known not to be scale invariant, where R says nothing."""
        return self.scale_invariant is not False

    def assumptions(self):
        """Status of the paper's assumptions, by name: True, False, or `None` if unknown."""
        known = paper_assumptions(self.is_plain_sgd, self.weight_decay > 0, self.scale_invariant)
        return known if self.decays_all_weights else {**known, DECAY_OF_ALL: False}

    def learning_rate_at(self, batch_size):
        """Peak learning rate at a batch size, by the scaling rule."""
        return self.learning_rate * (batch_size / self.batch_size) ** self.learning_rate_power

    def weight_decay_at(self, batch_size):
        """Weight decay at a batch size, by the scaling rule."""
        return self.weight_decay * (batch_size / self.batch_size) ** self.weight_decay_power

    def balancing_decay_at(self, batch_size):
        """Weight decay at a batch size as the balance of R has it: 0 unless all weights decay."""
        return self.weight_decay_at(batch_size) if self.decays_all_weights else 0.0

    def momentum_at(self, batch_size):
        """Momentum of SGD at a batch size, by the scaling rule."""
        if self.rule != HEAVY_BALL:
            return self.momentum
        return scale_decay_rate(self.momentum, batch_size / self.batch_size)

    def steps_at(self, batch_size):
        """Effective steps of a run at a batch size."""
        return effective_steps(self.epochs, self.num_train, batch_size)


def effective_steps(epochs, num_train, batch_size):
    """Effective steps of a run: `epochs * n / B`, rounded, at least 1."""
    steps = epochs * num_train / batch_size
    if steps > LARGEST_INT:
        raise ValueError(
            "`epochs` must be small enough that the number of steps fits into 64 bits. "
            f"Received: epochs={epochs}"
        )
    return max(1, round(steps))
