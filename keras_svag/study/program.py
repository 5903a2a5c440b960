"""One compiled program for all runs of a shape: `ell`, seed and weights are data to it."""

import functools
import math
import weakref

import keras
import numpy as np

from keras_svag import _keras
from keras_svag.datasets import Sampler
from keras_svag.distribution import check_batch_size, is_distributed, resident
from keras_svag.gaussian_noise import GaussianNoiseLoop
from keras_svag.models import MODELS
from keras_svag.resident import ResidentEvaluation, ResidentLoop, StackedLoop
from keras_svag.sde import standard_normals
from keras_svag.study.config import effective_steps
from keras_svag.study.optimizer import build_optimizer, scaled_learning_rate
from keras_svag.study.schedule import build_schedule, tabulate
from keras_svag.trainer import from_keras

MAX_STEPS_PER_CALL = 512
MAX_SAMPLERS = 64
# Where a call of the program is one step. After each piece a run may be asked to end.
STEPS_PER_PIECE = 16
GAUSSIAN_STEPS_PER_PIECE = 64
# What one forward pass without training, or one chunk of a full-batch gradient, may hold.
MAX_EXAMPLES, MAX_PIXELS = 2048, 2**20


def build_network(config, dataset, seed):
    """The network of a study with the initial weights that belong to `seed`.

    Trained weights are multiplied by `initial_scale`. Where the loss is scale invariant that is a
    choice of where R starts, and so of the effective learning rate, and of nothing else.

    Args:
        config: a validated config.
        dataset: a `keras_svag.datasets.Dataset`.
        seed: int.

    Returns:
        A `keras.Model` of logits.
    """
    options = {name: value for name, value in config["model"].items() if name != "name"}
    build = MODELS[config["model"]["name"]]
    network = build(dataset.input_shape, dataset.num_classes, seed=seed, **options)
    if config["initial_scale"] != 1:
        for variable in network.trainable_variables:
            variable.assign(variable * config["initial_scale"])
    return network


class Program:
    """The compiled train step and evaluation of one setting (batch size, learning rate).

    Args:
        config: a validated config.
        dataset: a `keras_svag.datasets.Dataset`; its arrays are put on the device once.
        batch_size: B.
    """

    def __init__(self, config, dataset, batch_size):
        self._config = config
        self._dataset = dataset
        self._batch_size = batch_size
        self._check_strategy()
        self.total = effective_steps(config, dataset.num_train, batch_size)
        schedule = self._build_schedule()
        self._rates = tabulate(schedule, self.total)
        self.model = from_keras(self._build_network(seed=0))
        self.model.compile(
            optimizer=self._build_optimizer(schedule), jit_compile=True, **self._losses()
        )
        one = (self._inputs(dataset.train_x[:1]), dataset.train_y[:1])
        _keras.build_for_training(self.model, one)
        self._piece = max(1, min(MAX_EXAMPLES, MAX_PIXELS // math.prod(dataset.input_shape)))
        self._loop = self._make_loop()
        train = self._make_evaluation(dataset.train_x, dataset.train_y)
        self._evaluations = {"train": train}
        if dataset.test_x is not None:
            test = self._make_evaluation(dataset.test_x, dataset.test_y, like=train)
            self._evaluations["test"] = test
        self._initial_optimizer = _values(self.model.optimizer.variables)
        # A sampler keeps the tables of two epochs; runs side by side have one each.
        self._sampler = functools.lru_cache(maxsize=MAX_SAMPLERS)(self._make_sampler)

    def _check_strategy(self):
        check_batch_size(self._batch_size)

    def _build_schedule(self):
        """The learning rate of the SGD run, a float or a Keras schedule."""
        config, num_train = self._config, self._dataset.num_train
        self.learning_rate = scaled_learning_rate(config, self._batch_size)
        base_total = effective_steps(config, num_train, config["base_batch_size"])
        return build_schedule(config["schedule"], self.learning_rate, self.total, base_total)

    def _build_optimizer(self, schedule):
        return build_optimizer(self._config, self._batch_size, schedule)

    def _build_network(self, seed):
        return build_network(self._config, self._dataset, seed)

    def _losses(self):
        """Loss and metrics, as arguments of `compile`."""
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {"loss": loss, "metrics": ["accuracy"]}

    def _inputs(self, x, draws=None):
        """What the network sees of images as they are stored."""
        if draws is not None:
            x = self._dataset.augmentation.apply(x, draws)
        return x if self._dataset.normalization is None else self._dataset.normalization(x)

    def _make_loop(self, kind=ResidentLoop):
        data = tuple(map(_on_device, (self._dataset.train_x, self._dataset.train_y)))
        return kind(self.model, data, MAX_STEPS_PER_CALL, self._inputs)

    @functools.cached_property
    def stacked_loop(self):
        """The train step for several runs side by side: a `StackedLoop`, if the backend has it."""
        return self._make_loop(StackedLoop)

    def _make_evaluation(self, x, y, like=None):
        size = self._config["evaluation_size"] or len(x)
        part = (x[:size], y[:size])
        return ResidentEvaluation(self.model, part, self._piece, self._inputs, like)

    @property
    def num_traces(self):
        """How often the train step was traced so far."""
        return self._loop.num_traces

    @property
    def steps_per_piece(self):
        """Largest number of steps to ask for at once: a run can be interrupted in between."""
        return MAX_STEPS_PER_CALL if self._loop.inside_xla else STEPS_PER_PIECE

    def start(self, ell, seed):
        """Puts the program at the beginning of a run.

        Args:
            ell: amplification.
            seed: decides the initial weights.
        """
        fresh = self._build_network(seed)
        _assign(self.model.variables[: len(fresh.variables)], _values(fresh.variables))
        _assign(self.model.optimizer.variables, self._initial_optimizer)
        # Not `optimizer`: under mixed_float16 that is the loss scaling around it.
        self.model._svag.ell = ell

    def _make_sampler(self, seed):
        examples = self._dataset.num_train
        return Sampler(examples, self._batch_size, self._config["sampling"], seed)

    def draw(self, seed, start, stop):
        """The randomness of the steps `start` to `stop - 1`, a pure function of seed and step.

        Args:
            seed: int.
            start: first step.
            stop: the step after the last.

        Returns:
            A tuple of the arguments of `advance`.
        """
        rows = self._sampler(seed).rows(start, stop)
        if self._dataset.augmentation is None:
            return (rows,)
        return rows, self._dataset.augmentation.draw(seed, start, stop, rows.shape[1])

    def advance(self, rows, draws=None, fresh=True):
        """Takes one step for each row of example indices.

        Args:
            rows: int array of shape `(steps, 2 B)`.
            draws: what the data set's `augmentation.draw` gave. Defaults to `None`: no
                augmentation.
            fresh: whether means begin here; otherwise those of the call before go on. Defaults to
                `True`.

        Returns:
            A tuple `(steps, logs)`: steps taken (fewer if the loss stopped being finite) and the
            means of loss, accuracy, noise and signal.
        """
        return self._loop.run(rows, draws, fresh)

    def evaluate(self):
        """Loss and accuracy on `evaluation_size` training and test examples, not augmented.

        Returns:
            A dict with `train_loss`, `train_accuracy`, `test_loss`, `test_accuracy`.
        """
        results = {}
        for split, evaluation in self._evaluations.items():
            results |= {f"{split}_{name}": value for name, value in evaluation.run().items()}
        return results

    def weight_norm(self):
        """R, the squared norm of the trainable weights, summed in float64."""
        weights = _values(self.model.trainable_variables)
        return float(sum(np.sum(np.square(w, dtype=np.float64)) for w in weights))

    def weight_function(self):
        """Mean of tanh(x)^2 over the trainable weights: a smooth, bounded function of them."""
        weights = _values(self.model.trainable_variables)
        return float(np.mean(np.tanh(np.concatenate([w.ravel() for w in weights])) ** 2))

    def learning_rates(self, ell, start, stop):
        """Learning rates (of the SGD run) at the SVAG steps `start` to `stop - 1`."""
        # The same float32 division as in the optimizer, so that no step falls on another side.
        # Not `arange` in float32, which goes in twos from 2^24 on.
        steps = np.arange(start, stop).astype(np.float32)
        effective = np.floor(steps / np.float32(ell)).astype(np.int64)
        return self._rates[np.minimum(effective, self.total)]

    def state(self):
        """Everything that a run is, as lists of arrays: see `restore`."""
        return {
            "model": _values(self.model.variables),
            "optimizer": _values(self.model.optimizer.variables),
            "metrics": _values(self.model.metrics_variables),
        }

    def save_network(self, path):
        """Saves the network as it is now, as a plain Keras model without optimizer.

        Args:
            path: file name that ends in `.keras`.
        """
        network = self._build_network(seed=0)
        _assign(network.variables, _values(self.model.variables[: len(network.variables)]))
        keras.saving.save_model(network, path)

    def restore(self, state):
        """Puts the program where `state` was taken.

        Args:
            state: what `state()` returned.
        """
        _assign(self.model.variables, state["model"])
        _assign(self.model.optimizer.variables, state["optimizer"])
        _assign(self.model.metrics_variables, state["metrics"])


class GaussianProgram(Program):
    """The same for full-batch steps with Gaussian noise of the covariance of a batch of B.

    In the place of `ell` stands m, the number of such steps in one effective step. There are no
    N and G in the logs: the gradient is the full one.
    """

    def _check_strategy(self):
        if is_distributed():
            raise ValueError(
                "`strategy` must be 'none' for full-batch steps with Gaussian noise, which run on "
                "one device. Received: a strategy of several. Use --strategy=none."
            )

    def _make_loop(self):
        # Cut into chunks before it goes to the device.
        data = (self._dataset.train_x, self._dataset.train_y)
        return GaussianNoiseLoop(self.model, data, self._piece, prepare=self._inputs)

    @property
    def steps_per_piece(self):
        """See `Program`; here a step reads the whole training set."""
        return GAUSSIAN_STEPS_PER_PIECE if self._loop.inside_xla else 1

    def draw(self, seed, start, stop):
        """Standard normal numbers, one for each step and example."""
        return (standard_normals(self._dataset.num_train, seed, start, stop),)

    def advance(self, rows, fresh=True):
        """Takes one step for each row of standard normal numbers.

        Args:
            rows: array of shape `(steps, n)`.
            fresh: as in `Program`.

        Returns:
            A tuple `(steps, logs)`, as in `Program`, of loss and accuracy.
        """
        # The loop leaves the optimizer alone; its counter says where the schedule is.
        optimizer = self.model._svag
        start, noise_steps = int(optimizer.iterations), optimizer.ell
        steps, logs = self._loop.run(
            rows,
            self._batch_size,
            self.learning_rates(noise_steps, start, start + len(rows)),
            noise_steps,
            self._config["weight_decay"],
            fresh,
        )
        optimizer.iterations.assign(start + steps)
        return steps, logs


_tensors = {}


def _on_device(array):
    """The array as a tensor: one copy, however many programs read it, as long as it lives."""
    key = id(array)
    if key not in _tensors:
        _tensors[key] = resident(array)
        weakref.finalize(array, _tensors.pop, key, None)
    return _tensors[key]


def _values(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
