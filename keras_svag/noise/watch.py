"""Measures noise and signal while `fit` trains any model, by what its optimizer is given."""

import contextlib
import dataclasses
import math
import threading
import typing
import warnings
from collections.abc import Callable

from keras_svag._backend import backend_module
from keras_svag.noise.scale import GradientNoiseScale
from keras_svag.optimizers import AmplificationMixin
from keras_svag.xla_policy import has_accelerator

backend: typing.Any = backend_module("keras_svag.noise")


def reason_not_to_watch(model):
    """Returns why the gradients of a compiled model's train step do not show noise, or `None`."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if optimizer is None:
        return "no optimizer"
    if isinstance(optimizer, AmplificationMixin):
        return f"{type(optimizer).__name__} in a model that is no SVAGModel"
    if optimizer.gradient_accumulation_steps or backend.replicas_of(model) > 1:
        return None
    return f"a single gradient per step{backend.WHY_SINGLE}"


class Watch:
    """Noise and signal of every `fit` between `begin` and `end`, from one wrapped train function.

    The optimizer's method that takes gradients is replaced while a train function runs, and only
    then; `train_step` is wrapped to see the size of the batch.
    """

    def __init__(self, model, by_layer=False):
        self._model = model
        self._by_layer = by_layer
        self._plain: Callable | None = None  # train functions
        self._watched: Callable | None = None
        self._batch = threading.local()  # a replica has a thread of its own
        self._has_warned = False
        self.saw_gradients = False

    @property
    def layers(self):
        """Paths of the layers, in the order of what `read` returns."""
        return self._scale.layers

    def is_of(self, model):
        """Returns True if this watches a model."""
        return self._model is model

    def begin(self):
        """Makes the model's train function measure; compiles it only if the model is another."""
        model = self._model
        model.make_train_function()
        plain = getattr(model.train_function, "plain", model.train_function)
        if plain is not self._plain:
            self._plain, self._optimizer = plain, model.optimizer
            with backend.scope_of(model):
                self._scale = GradientNoiseScale(self._by_layer)
                self._scale.build(model.trainable_weights)
            self._scale._fold = bool(model.jit_compile) and not has_accelerator()
            self._sums = backend.Sums(self._scale)
            self._watched = self._make_watched()
        model.train_function = self._watched
        self._sums.reset()

    def go_on(self):
        """Measures again if the train function was made anew, as when the batch grows."""
        if not isinstance(self._model.train_function, _TrainFunction):
            self.begin()

    def end(self):
        """Gives the model its own train function back."""
        if self._model.train_function is self._watched:
            self._model.train_function = self._plain

    def reset(self):
        """Sets the sums to zero."""
        self._sums.reset()

    def read(self):
        """Returns the sums of `GradientStatistics`, as floats, and those of each layer."""
        return self._sums.read()

    def logs(self):
        """Returns what `GradientNoiseScale.result` would, as floats; empty without a step."""
        (noise, signal, weight, steps, _), layers = self.read()
        if not steps:
            return {}
        logs = {
            "gradient_noise": noise / weight,
            "gradient_signal": signal / weight,
            "noise_to_signal": noise / signal if signal > 0 else math.inf,
        }
        for name, n, g in [("", noise, signal), *zip(self.layers, *layers)]:
            name = f"noise_scale/{name}" if name else "noise_scale"
            logs[name] = float(n / steps / (g / weight)) if g > 0 else math.inf
        return logs

    def _make_watched(self):
        model, train_step = self._model, self._model.train_step

        def watched_step(*args):
            self._batch.size = backend.batch_length(args[-1])
            return train_step(*args)

        with _replaced(model, "train_step", watched_step):
            model.make_train_function(force=True)
        hook = backend.make_hook(self._optimizer, self._measure)
        return _TrainFunction(model.train_function, self._plain, self._optimizer, hook)

    def _measure(self, gradients, weights):
        self.saw_gradients = True
        try:
            self._sums.add(self._optimizer, gradients, weights, self._batch.size)
        except Exception as error:
            # While the step is traced: the step goes on, without the measurement.
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    "Gradient noise cannot be measured in this `train_step`; training is not "
                    f"affected. {type(error).__name__}: {error}",
                    stacklevel=2,
                )


@dataclasses.dataclass(eq=False)
class _TrainFunction:
    """A train function during which an optimizer hands its gradients to a hook first."""

    function: Callable
    plain: Callable  # the one that does not measure
    optimizer: typing.Any
    hook: Callable

    def __call__(self, *args):
        with _replaced(self.optimizer, backend.HOOK, self.hook):
            return self.function(*args)


@contextlib.contextmanager
def _replaced(instance, name, value):
    """Gives an object, not its class, another method."""
    own = vars(instance)
    before = own.get(name)
    own[name] = value
    try:
        yield
    finally:
        if before is None:
            own.pop(name, None)
        else:
            own[name] = before
