"""One compiled program for all runs at a batch size: `ell`, seed and weights are data to it."""

import functools
import weakref

import keras
import numpy as np
from keras import tree

from keras_svag import _keras
from keras_svag.datasets import Sampler
from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop, VmappedTrainLoop
from keras_svag.distribution import check_batch_size, to_device
from keras_svag.recipe.arrays import example_size, take
from keras_svag.recipe.rates import tabulate
from keras_svag.trainer import from_keras

MAX_STEPS_PER_CALL = 512
MAX_SAMPLERS = 64
# Where a call of the program is one step. After each piece a run may be asked to end.
STEPS_PER_SEGMENT = 16
# What one forward pass without training, or one chunk of a full-batch gradient, may hold.
MAX_EXAMPLES, MAX_NUMBERS = 2048, 2**20


class CompiledTraining:
    """The compiled train step and evaluation of a recipe at one batch size.

    Args:
        recipe: a `Recipe`; its arrays are put on the device once.
        recording: a `Recording`.
        batch_size: B.
    """

    def __init__(self, recipe, recording, batch_size):
        self.recipe, self._recording, self._batch_size = recipe, recording, batch_size
        self._check_strategy()
        self.total = recipe.facts.steps_at(batch_size)
        self._rates = tabulate(recipe.schedule_at(batch_size), self.total)
        self.model = from_keras(recipe.build(seed=0))
        self.model.compile(
            optimizer=recipe.optimizer_at(batch_size),
            jit_compile=True,
            **recipe.compile_arguments(),
        )
        x, *rest = take(recipe.train_data, slice(1))
        _keras.build_for_training(self.model, (recipe.inputs(x), *rest))
        self._piece = max(1, min(MAX_EXAMPLES, MAX_NUMBERS // example_size(recipe.train_data[0])))
        self._loop = self._make_loop()
        train = self._make_evaluation(recipe.train_data)
        self._evaluations = {"train": train}
        if recipe.test_data is not None:
            self._evaluations["test"] = self._make_evaluation(
                recipe.test_data, share_program_with=train
            )
        self._initial_optimizer = values_of(self.model.optimizer.variables)
        # A sampler keeps the tables of two epochs; runs side by side have one each.
        self._sampler = functools.lru_cache(maxsize=MAX_SAMPLERS)(self._make_sampler)

    def _check_strategy(self):
        check_batch_size(self._batch_size)

    def _make_loop(self, kind=DeviceTrainLoop):
        data = tree.map_structure(_on_device, self.recipe.train_data, none_is_leaf=True)
        return kind(self.model, data, MAX_STEPS_PER_CALL, self.recipe.inputs)

    @functools.cached_property
    def vmapped_loop(self):
        """The train step for several runs side by side: a `VmappedTrainLoop`, if the backend has it."""
        return self._make_loop(VmappedTrainLoop)

    def _make_evaluation(self, data, share_program_with=None):
        part = take(data, slice(self._recording.evaluation_size or None))
        return DeviceEvaluation(
            self.model, part, self._piece, self.recipe.inputs, share_program_with
        )

    @property
    def num_traces(self):
        """How often the train step was traced so far."""
        return self._loop.num_traces

    @property
    def steps_per_segment(self):
        """Largest number of steps to ask for at once: a run can be interrupted in between."""
        return MAX_STEPS_PER_CALL if self._loop.fuses_steps else STEPS_PER_SEGMENT

    def start(self, ell, seed):
        """Puts the program at the beginning of a run.

        Args:
            ell: amplification.
            seed: decides the initial weights.
        """
        network = self.recipe.build(seed)
        assign(self.model.variables[: len(network.variables)], values_of(network.variables))
        assign(self.model.optimizer.variables, self._initial_optimizer)
        # Not `optimizer`: under mixed_float16 that is the loss scaling around it.
        self.model._svag.ell = ell

    def _make_sampler(self, seed):
        recipe = self.recipe
        return Sampler(recipe.num_train, self._batch_size, recipe.sampling, seed)

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
        augmentation = self.recipe.augmentation
        if augmentation is None:
            return (rows,)
        return rows, augmentation.draw(seed, start, stop, rows.shape[1])

    def advance(self, rows, augment_params=None, reset_metrics=True):
        """Takes one step for each row of example indices.

        Args:
            rows: int array of shape `(steps, 2 B)`.
            augment_params: what `augmentation.draw` gave. Defaults to `None`: no
                augmentation.
            reset_metrics: whether means begin here; otherwise those of the call before go on. Defaults to
                `True`.

        Returns:
            A tuple `(steps, logs)`: steps taken (fewer if the loss stopped being finite) and the
            means of loss, accuracy, noise and signal.
        """
        return self._loop.run(rows, augment_params, reset_metrics)

    def evaluate(self):
        """Loss and metrics on `evaluation_size` training and test examples, not augmented.

        Returns:
            A dict with `train_loss` and so on; of the test data if there are any.
        """
        results = {}
        for split, evaluation in self._evaluations.items():
            results |= {f"{split}_{name}": value for name, value in evaluation.run().items()}
        return results

    def weight_norm(self):
        """R, the squared norm of the trainable weights, summed in float64."""
        weights = values_of(self.model.trainable_variables)
        return float(sum(np.sum(np.square(w, dtype=np.float64)) for w in weights))

    def weight_function(self):
        """Mean of tanh(x)^2 over the trainable weights: a smooth, bounded function of them."""
        weights = values_of(self.model.trainable_variables)
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
            "model": values_of(self.model.variables),
            "optimizer": values_of(self.model.optimizer.variables),
            "metrics": values_of(self.model.metrics_variables),
        }

    def save_network(self, path):
        """Saves the network as it is now, as a plain Keras model without optimizer.

        Args:
            path: file name that ends in `.keras`.
        """
        network = self.recipe.build(seed=0)
        assign(network.variables, values_of(self.model.variables[: len(network.variables)]))
        keras.saving.save_model(network, path)

    def restore(self, state):
        """Puts the program where `state` was taken.

        Args:
            state: what `state()` returned.
        """
        assign(self.model.variables, state["model"])
        assign(self.model.optimizer.variables, state["optimizer"])
        assign(self.model.metrics_variables, state["metrics"])


_tensors = {}


def _on_device(array):
    """The array as a tensor: one copy, however many programs read it, as long as it lives."""
    if array is None:
        return None
    key = id(array)
    if key not in _tensors:
        _tensors[key] = to_device(array)
        weakref.finalize(array, _tensors.pop, key, None)
    return _tensors[key]


def values_of(variables):
    """Values of variables as NumPy arrays; bfloat16, which files cannot hold, as float32."""
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]
    return [a.astype(np.float32) if a.dtype.kind == "V" else a for a in arrays]


def assign(variables, values):
    """Gives each of a list of variables its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
