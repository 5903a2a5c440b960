"""The numbers of a recipe that verdicts rest on, without its model and its data."""

import dataclasses

from keras_svag._checks import LARGEST_INT
from keras_svag.theory.assumptions import paper_assumptions

SGD = "SVAG"


@dataclasses.dataclass(frozen=True)
class TrainingFacts:
    """What judging a study needs to know about the training; kept in `environment.json`.

    Attributes:
        optimizer: class name of the SVAG optimizer, such as `"SVAGAdam"`.
        momentum: momentum of SGD, 0 if there is none.
        rule: name of the scaling rule.
        learning_rate: peak learning rate at `batch_size`.
        learning_rate_power: power of kappa that multiplies it at kappa times the batch size.
        weight_decay: decoupled weight decay at `batch_size`, 0 if there is none.
        weight_decay_power: the same power for the weight decay.
        batch_size: B of the recipe, the base of the scaling rule.
        epochs: length of the run in passes over the training set.
        num_train: n, number of training examples.
        sampling: one of `keras_svag.datasets.SAMPLING_MODES`.
        scale_invariant: whether scaling all trained weights leaves the outputs alone; `None` if
            that is not known.
        independent_of_batch: whether the loss of an example is independent of the others in its
            batch (false with batch norm); `None` if that is not known.
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

    @property
    def facts(self):
        """These facts: they stand in for a recipe where nothing is trained."""
        return self

    @property
    def is_plain_sgd(self):
        """Whether the optimizer is SGD without momentum, for which the theory is exact."""
        return self.optimizer == SGD and not self.momentum

    @property
    def title(self):
        """Name of the optimizer in sentences: "SGD", "SGD with momentum", "AdamW"."""
        if self.optimizer == SGD:
            return "SGD with momentum" if self.momentum else "SGD"
        return self.optimizer.removeprefix("SVAG")

    def assumptions(self):
        """What the paper's conditions assume of every run, a dict to True, False or `None`."""
        return paper_assumptions(self.is_plain_sgd, self.weight_decay > 0, self.scale_invariant)

    def learning_rate_at(self, batch_size):
        """Peak learning rate at a batch size, by the scaling rule."""
        return self.learning_rate * (batch_size / self.batch_size) ** self.learning_rate_power

    def weight_decay_at(self, batch_size):
        """Weight decay at a batch size, by the scaling rule."""
        return self.weight_decay * (batch_size / self.batch_size) ** self.weight_decay_power

    def steps_at(self, batch_size):
        """Effective steps of a run at a batch size: `epochs * n / B`, rounded, at least 1."""
        steps = self.epochs * self.num_train / batch_size
        if not steps <= LARGEST_INT:
            raise ValueError(
                "`epochs` must be so small that the number of steps is an integer of 64 bits. "
                f"Received: epochs={self.epochs}"
            )
        return max(1, round(steps))
