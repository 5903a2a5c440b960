"""The programs that users run, to be compiled for other devices than this machine's."""

import dataclasses

import numpy as np

from benchmarks.sides import networks
from keras_svag import _keras
from keras_svag.accelerators import Program
from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop, VmappedTrainLoop
from keras_svag.engine.compiled import MAX_STEPS_PER_CALL
from keras_svag.gaussian_noise import GaussianNoiseLoop

# By name: what `networks.build` takes.
MODELS = {
    "gpt": ("gpt", {"depth": 4, "width": 128}),
    "mlp": ("mlp", {}),
    "preresnet8": ("preresnet", {"depth": 8, "norm": "batch"}),
    "preresnet8_gn": ("preresnet", {"depth": 8, "norm": "group"}),
    "preresnet32": ("preresnet", {"depth": 32, "norm": "batch"}),
    "preresnet32_gn": ("preresnet", {"depth": 32, "norm": "group"}),
    "vgg16": ("vgg", {"depth": 16, "norm": "batch"}),
}
NUM_SEEDS = 8
STEPS_PER_EXECUTION = 50
CHUNK_SIZE = 256  # of an evaluation, and of the full-batch gradient


@dataclasses.dataclass(frozen=True)
class Work:
    """A network and the B of its steps."""

    model: str
    batch_size: int

    def build(self, kind="svag", **options):
        """Returns the network, built and compiled; `kind` is "svag" or "plain"."""
        name, network = MODELS[self.model]
        model = getattr(networks, kind)(name, **options, **network)
        _keras.build_for_training(model, self.batch(2))
        return model

    def batch(self, count):
        """Returns a batch of `count` examples."""
        return networks.examples(MODELS[self.model][0], count)

    @property
    def data(self):
        """Returns a data set."""
        return self.batch(networks.COUNT)

    def rows(self, steps):
        """Returns the rows of example indices of some steps."""
        return networks.row_table(networks.COUNT, steps, self.batch_size).astype(np.int32)


def plain(work, target):
    """The step of plain Keras on B examples, in `fit`."""
    return target.train_program(work.build("plain"), work.batch(work.batch_size))


def svag(work, target, measure_noise=True):
    """The SVAG step on 2B examples, in `fit`."""
    model = work.build(measure_noise=measure_noise)
    return target.train_program(model, work.batch(2 * work.batch_size))


def svag_without_noise(work, target):
    """The same with `measure_noise = False`."""
    return svag(work, target, measure_noise=False)


def fused_steps(work, target):
    """`fit` with `steps_per_execution`: a stack of batches, and a step for each."""
    model = work.build(steps_per_execution=STEPS_PER_EXECUTION)
    model.make_train_function()
    state = target.train_program(model, None).arguments[0]
    return Program(*model.train_function.first_call(state, work.batch(2 * work.batch_size)))


def many_steps(work, target, steps=MAX_STEPS_PER_CALL):
    """Many steps over resident data, as studies take them."""
    loop = DeviceTrainLoop(work.build(), work.data, steps)
    return Program(*loop.first_call(work.rows(steps)))


def one_step(work, target):
    """The same program for a single step."""
    return many_steps(work, target, steps=1)


def two_steps(work, target):
    """The same for two steps, the fewest that make a loop."""
    return many_steps(work, target, steps=2)


def seeds(work, target):
    """Many steps of several seeds, vectorized."""
    loop = VmappedTrainLoop(work.build(), work.data, MAX_STEPS_PER_CALL)
    loop.stack([loop.values()] * NUM_SEEDS)
    rows = np.repeat(work.rows(MAX_STEPS_PER_CALL)[:, None], NUM_SEEDS, axis=1)
    return Program(*loop.first_call(rows))


def gaussian(work, target):
    """Many full-batch steps with Gaussian noise."""
    loop = GaussianNoiseLoop(work.build(), work.data, CHUNK_SIZE)
    return Program(*loop.first_call(np.zeros((1, networks.COUNT)), work.batch_size))


def evaluation(work, target):
    """One batch of an evaluation."""
    examples = DeviceEvaluation(work.build(), work.data, CHUNK_SIZE)
    return Program(*examples.first_call(), batches=(1,))


PROGRAMS = {
    function.__name__: function
    for function in (
        plain,
        svag,
        svag_without_noise,
        fused_steps,
        one_step,
        two_steps,
        many_steps,
        seeds,
        gaussian,
        evaluation,
    )
}
# What is run on one chip only, and what needs a loss of each example.
ONE_CHIP = ("fused_steps", "one_step", "two_steps", "seeds", "gaussian")
NEEDS_EXAMPLES = ("gaussian",)


def can_run(program, model, chips):
    """Returns True if users can run a program with a network on that many chips."""
    has_batch_norm = MODELS[model][1].get("norm") == "batch"
    return not (program in ONE_CHIP and chips > 1) and not (
        program in NEEDS_EXAMPLES and has_batch_norm
    )
