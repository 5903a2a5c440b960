"""Least cost of the runs of a recipe on accelerators that are not there."""

import copy
import dataclasses

import keras
from keras import tree

from keras_svag.accelerators import Chip, Counts, Program, Target, parse_topology, roofline_seconds
from keras_svag.engine.processes.worker import TRAINING_CLASSES
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import GAUSSIAN
from keras_svag.recipe.arrays import take
from keras_svag.xla_policy import assume_accelerator

SECONDS_PER_HOUR = 3600


@dataclasses.dataclass(frozen=True)
class StepEstimate:
    """The compiled program of one method at one batch size, of which `chips` share each batch.

    `counts` are those of one chip for `examples` of all chips; `seconds` is the least time for one
    example, and `compute_seconds` that without memory traffic, at any smaller batch size too.
    """

    method: str
    batch_size: int
    chips: int
    examples: int
    counts: Counts
    seconds: float
    compute_seconds: float

    def __str__(self):
        counts = self.counts
        step = f"{self.method}, B = {self.batch_size}, on {_chips(self.chips)}"
        return (
            f"{step}: {counts.flops / 1e9:,.4g} GFLOP and {counts.bytes / 1e6:,.4g} MB a chip for "
            f"{self.examples} examples, {counts.temporary_bytes / 2**20:,.4g} MiB of temporaries; "
            f"at least {self.seconds * self.examples * 1e3:,.3g} ms"
        )


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A lower bound on the cost of some runs on a topology."""

    topology: str
    chip: Chip
    chips: int
    num_runs: int
    num_steps: int
    steps: list[StepEstimate]
    chip_hours: float

    @property
    def hours(self):
        """Returns the hours that pass: runs share each chip's batches, or run side by side."""
        shared = self.steps[0].chips
        return self.chip_hours / (shared if shared > 1 else min(self.chips, self.num_runs))

    def __str__(self):
        lines = [f"Compiled for {self.topology}; nothing was run."]
        lines += [f"  {step}" for step in self.steps]
        lines.append(
            f"{self.num_runs} runs, {self.num_steps:,} steps: at least {self.chip_hours:,.3g} "
            f"chip-hours, {self.hours:,.3g} hours on {_chips(self.chips)}. Training takes longer: "
            "this is the time at the published peaks, without evaluation, checkpoints and start."
        )
        return "\n".join(lines)


def _chips(count):
    return f"{count} chip{'' if count == 1 else 's'}"


def estimate_step(recipe, method, batch_size, topology, chips=1):
    """Returns the `StepEstimate` of a method at a batch size, by compiling its program."""
    if Target is None:
        raise ValueError(
            "An estimate must be made with JAX, which compiles for devices that are not there. "
            "Received: the backend tensorflow. Set KERAS_BACKEND=jax."
        )
    target, build = Target(topology, chips), TRAINING_CLASSES[method]
    with assume_accelerator(target.chip.platform):
        examples = build(recipe, Recording(evaluation_size=1), batch_size).examples_per_pass
        recipe = _with_few_examples(recipe, examples)
        training = build(recipe, Recording(evaluation_size=1), batch_size)
        draws = training.draw(0, 0, min(training.steps_per_segment, training.total))
        function, (state, data, *rest) = training.first_call(*draws)
    if chips > 1:  # each of them gathers its part, and has all data
        data = tree.map_structure(lambda a: a[: examples // chips], data, none_is_leaf=True)
    counts = target.compile(Program(function, (state, data, *rest)))
    dtype = keras.config.dtype_policy().name
    seconds = roofline_seconds(counts, target.chip, dtype) / examples
    compute_seconds = counts.flops / target.chip.peak_flops(dtype) / examples
    return StepEstimate(method, batch_size, chips, examples, counts, seconds, compute_seconds)


def _with_few_examples(recipe, count):
    """Returns a copy of a recipe whose data are as many examples as one step reads."""
    # The compiler counts a gather as if it read all data, and the copy of all data that a program
    # makes before its loop as if each step made it.
    recipe.facts  # noqa: B018 (the copy keeps them: steps, and examples of the whole data set)
    few = copy.copy(recipe)
    few.train_data, few.test_data = take(recipe.train_data, slice(count)), None
    return few


def estimate_runs(recipe, specs, topology, can_share=True, estimate_step=estimate_step):
    """Returns the `Estimate` of runs; chips share batches where they can, if they may."""
    # One program is compiled for each method, at the largest batch size of its runs. A smaller
    # batch may fit into the core, so its traffic is not known; it computes no less per example.
    chip, count = parse_topology(topology)
    if chip.platform != "tpu":  # the compiler for GPUs counts neither operations nor bytes
        raise ValueError(
            "`topology` must be one of TPUs for an estimate. "
            f"Received: topology={topology!r}. Example: v5e:2x2."
        )
    is_shared = can_share and not any(spec.batch_size % count for spec in specs)
    largest = {}
    for spec in specs:
        method, size = spec.program
        largest[method] = max(size, largest.get(method, 0))
    steps, chips = {}, count if is_shared else 1
    for method, size in largest.items():
        steps[method] = estimate_step(recipe, method, size, topology, chips)
    seconds = sum(
        _chip_seconds(steps[spec.program[0]], spec.batch_size)
        * spec.examples_per_step(recipe.num_train)
        * spec.steps
        for spec in specs
    )
    return Estimate(
        topology,
        chip,
        count,
        len(specs),
        sum(spec.steps for spec in specs),
        list(steps.values()),
        seconds / SECONDS_PER_HOUR,
    )


def _chip_seconds(step, batch_size):
    """Least time of all chips together for one example, also of a smaller batch."""
    is_compiled = step.method == GAUSSIAN or step.batch_size == batch_size
    return step.chips * (step.seconds if is_compiled else step.compute_seconds)
