"""Compiled training at one batch size; `ell`, seed and weights are data to the program."""

import functools
import pathlib
import weakref

import keras
import numpy as np
from keras import tree

from keras_svag import _keras
from keras_svag._scratch import temporary_folder
from keras_svag.datasets import Sampler
from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop, VmappedTrainLoop
from keras_svag.distribution import check_batch_size, to_device
from keras_svag.models.normalization import with_keras_layers
from keras_svag.optimizers.state import state_factors
from keras_svag.recipe.arrays import example_size, take
from keras_svag.recipe.rates import tabulate
from keras_svag.trainer import from_keras

MAX_STEPS_PER_CALL = 512
MAX_SAMPLERS = 64
# Without fused steps. A run can be preempted after each segment.
STEPS_PER_SEGMENT = 16
# Limits of an evaluation batch, and of a chunk of the full-batch gradient.
MAX_EVAL_BATCH, MAX_EVAL_NUMBERS = 2048, 2**20


class CompiledTraining:
    """Compiled train step and evaluation of a recipe at one batch size, for all its runs."""

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
        max_examples = MAX_EVAL_NUMBERS // example_size(recipe.train_data[0])
        self._eval_batch_size = max(1, min(MAX_EVAL_BATCH, max_examples))
        self._loop = self._make_loop()
        train = self._make_evaluation(recipe.train_data)
        self._evaluations = {"train": train}
        if recipe.test_data is not None:
            self._evaluations["test"] = self._make_evaluation(
                recipe.test_data, share_program_with=train
            )
        self._initial_optimizer = values_of(self.model.optimizer.variables)
        # A sampler caches two epochs; vectorized runs need one each.
        make_sampler = functools.partial(Sampler, recipe.num_train, batch_size, recipe.sampling)
        self._sampler = functools.lru_cache(maxsize=MAX_SAMPLERS)(make_sampler)

    def _check_strategy(self):
        check_batch_size(self._batch_size)

    def _make_loop(self, kind=DeviceTrainLoop):
        data = tree.map_structure(_on_device, self.recipe.train_data, none_is_leaf=True)
        return kind(self.model, data, MAX_STEPS_PER_CALL, self.recipe.inputs)

    @functools.cached_property
    def vmapped_loop(self):
        """`VmappedTrainLoop` for several runs at once, where the backend has one."""
        return self._make_loop(VmappedTrainLoop)

    def _make_evaluation(self, data, share_program_with=None):
        data = take(data, slice(self._recording.evaluation_size or None))
        return DeviceEvaluation(
            self.model, data, self._eval_batch_size, self.recipe.inputs, share_program_with
        )

    @property
    def num_traces(self):
        """Number of times the train step was traced."""
        return self._loop.num_traces

    @property
    def steps_per_segment(self):
        """Largest number of steps per `advance`; runs can be preempted in between."""
        return MAX_STEPS_PER_CALL if self._loop.fuses_steps else STEPS_PER_SEGMENT

    def start(self, ell, seed):
        """Resets the program to the start of a run with this `ell` and seed."""
        network = self.recipe.build(seed)
        assign(self.model.variables[: len(network.variables)], values_of(network.variables))
        assign(self.model.optimizer.variables, self._initial_optimizer)
        # Not `model.optimizer`, which under mixed_float16 is the loss-scaling wrapper.
        self.model._svag.ell = ell

    def branch(self, state, kappa, step):
        """Takes over, after `start`, the state of a run at 1/kappa times the batch size."""
        # `step` is what schedules and bias corrections count, in steps of this batch size.
        optimizer = self.model._svag
        rate = _keras.get_learning_rate(optimizer)
        # Rates and amplification are those of this batch size.
        own = optimizer.iterations, rate, optimizer._amplified.variable, optimizer._r1
        kept = set(map(id, own))
        for variable, value in zip(self.model.optimizer.variables, state["optimizer"], strict=True):
            if id(variable) not in kept:
                variable.assign(value)
        # While `iterations` is 0, as now, these leave out the bias: an average of kappa times fewer
        # gradients, each of kappa times the weight, has nearly the same after `step`.
        for variable, factor in state_factors(optimizer, kappa, self.recipe.rule):
            variable.assign(variable * factor)
        optimizer.iterations.assign(step)
        self.restore(state | {"optimizer": values_of(self.model.optimizer.variables)})

    def draw(self, seed, start, stop):
        """Draws the arguments of `advance` for steps `start` to `stop - 1`."""
        rows = self._sampler(seed).rows(start, stop)
        augmentation = self.recipe.augmentation
        if augmentation is None:
            return (rows,)
        return rows, augmentation.draw(seed, start, stop, rows.shape[1])

    def advance(self, rows, augment_params=None, reset_metrics=True):
        """Takes a step per row of `2 B` example indices; returns `(steps_done, mean logs)`."""
        return self._loop.run(rows, augment_params, reset_metrics)

    def first_call(self, rows, augment_params=None):
        """Returns what `advance` calls first, to be compiled ahead of time (JAX)."""
        return self._loop.first_call(rows, augment_params)

    @property
    def examples_per_pass(self):
        """Number of examples that the program's code handles in one pass through its loops."""
        return 2 * self._batch_size

    def evaluate(self):
        """Returns `train_loss`, `test_loss` and so on, without augmentation."""
        results = {}
        for split, evaluation in self._evaluations.items():
            results |= {f"{split}_{name}": value for name, value in evaluation.run().items()}
        return results

    def weight_norm(self):
        """R, the squared norm of the trainable weights, summed in float64."""
        return _squared_norm(_keras.learned_weights(self.model))

    def velocity_norm(self):
        """The squared norm of the velocity of a heavy ball; `None` with any other optimizer."""
        optimizer = self.model._svag
        is_heavy_ball = isinstance(optimizer, keras.optimizers.SGD) and not optimizer.nesterov
        if not is_heavy_ball or not optimizer.momentum:
            return None
        # Keras has none for variables that it overwrites.
        return _squared_norm([m for m in optimizer.momentums if m is not None])

    def weight_function(self):
        """Mean of tanh(x)^2 over the trainable weights: a smooth, bounded test function."""
        weights = values_of(_keras.learned_weights(self.model))
        return float(np.mean(np.tanh(np.concatenate([w.ravel() for w in weights])) ** 2))

    def learning_rates(self, ell, start, stop):
        """Learning rates of the SGD run at SVAG steps `start` to `stop - 1`."""
        # The float32 division of the optimizer, so that rounding gives the same effective step.
        # Not a float32 `arange`, which skips every other integer from 2^24 on.
        steps = np.arange(start, stop).astype(np.float32)
        effective = np.floor(steps / np.float32(ell)).astype(np.int64)
        return self._rates[np.minimum(effective, self.total)]

    def state(self):
        """Full training state as lists of arrays, for `restore`."""
        return {name: values_of(variables) for name, variables in self._variables().items()}

    def serialize_network(self):
        """The bytes of a `.keras` file with the current network, which needs Keras alone."""
        network = self.recipe.build(seed=0)
        assign(network.variables, values_of(self.model.variables[: len(network.variables)]))
        with temporary_folder() as folder:
            path = pathlib.Path(folder) / "model.keras"
            keras.saving.save_model(with_keras_layers(network), path)
            return path.read_bytes()

    def restore(self, state):
        """Restores what `state` returned."""
        for name, variables in self._variables().items():
            assign(variables, state[name])

    def _variables(self):
        model = self.model
        optimizer, metrics = model.optimizer.variables, model.metrics_variables
        return {"model": model.variables, "optimizer": optimizer, "metrics": metrics}


_device_tensors = {}


def _on_device(array):
    """Returns the array as a tensor; cached, so that all programs share one copy."""
    if array is None:
        return None
    key = id(array)
    if key not in _device_tensors:
        _device_tensors[key] = to_device(array)
        weakref.finalize(array, _device_tensors.pop, key, None)  # before the id is reused
    return _device_tensors[key]


def _squared_norm(variables):
    return float(sum(np.sum(np.square(v, dtype=np.float64)) for v in values_of(variables)))


def values_of(variables):
    """Returns variables as NumPy arrays; bfloat16, which `.npz` cannot hold, as float32."""
    arrays = [keras.ops.convert_to_numpy(variable) for variable in variables]
    return [a.astype(np.float32) if a.dtype.kind == "V" else a for a in arrays]


def assign(variables, values):
    """Assigns each variable its value."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
