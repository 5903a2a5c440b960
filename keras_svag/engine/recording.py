"""Settings that say when a run is recorded and saved."""

import dataclasses
import math

from keras_svag._checks import positive_int

_MINIMA = {"seed": 0, "num_records": 1, "num_checkpoints": 1, "evaluation_size": 0}


@dataclasses.dataclass(frozen=True)
class Recording:
    """Recording settings, the same for all runs of a study.

    `num_records` counts the rows of `metrics.jsonl`, `num_checkpoints` the checkpoints of a run,
    unless `checkpoint_steps` sets the effective steps between them. `evaluation_size` is the number
    of examples of each split to evaluate on, 0 for all. `identity` is a digest of what all runs
    have in common, which each result and checkpoint holds.
    """

    seed: int = 0
    num_records: int = 60
    num_checkpoints: int = 10
    checkpoint_steps: int | None = None
    evaluation_size: int = 0
    identity: str = ""

    def __post_init__(self):
        for name, minimum in _MINIMA.items():
            positive_int(name, getattr(self, name), minimum=minimum)
        if self.checkpoint_steps is not None:
            positive_int("checkpoint_steps", self.checkpoint_steps)

    def points(self, spec):
        """Effective steps at which a run is recorded."""
        return spec.record_points(self.num_records)

    def checkpoints(self, spec):
        """Sorted steps after which a checkpoint is written, the last step among them."""
        if self.checkpoint_steps is None:
            points = self.points(spec)
            stride = math.ceil(len(points) / self.num_checkpoints)
            effective = points[stride - 1 :: stride]
        else:
            effective = range(self.checkpoint_steps, spec.total, self.checkpoint_steps)
        return sorted({spec.steps, *map(spec.steps_until, effective)})
