"""Pytest plugin: Keras' own test files see the classes of keras_svag in place of Keras'.

The names are replaced where a test file looks for them: in the modules of Keras while the file is
imported, then in its global variables. Keras itself goes on with its own classes.
"""

import contextlib
import importlib
import inspect
import types
from unittest import mock

import keras
import pytest
from keras.src import models, optimizers

import keras_svag
from keras_svag.trainer.model import SplitBatchMixin


def with_signature_of(keras_class, svag_class):
    """Returns an SVAG optimizer with ell = 1, arguments and name of the optimizer of Keras."""

    class Substitute(svag_class):
        def __init__(self, *args, **kwargs):
            arguments = keras_class.__init__.__get__(self)
            super().__init__(ell=kwargs.pop("ell", 1.0), **bind(arguments, args, kwargs))
            # As in a step of an SVAGModel: each call of `apply` brings a combined gradient.
            self._combined_gradients = True

        def combined(self):
            return contextlib.nullcontext()

    Substitute.__name__ = Substitute.__qualname__ = keras_class.__name__
    return keras.saving.register_keras_serializable("keras_own", keras_class.__name__)(Substitute)


def bind(function, args, kwargs):
    """Returns the arguments of a call by name, with the defaults of the function."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    more = bound.arguments.pop("kwargs", {})
    return {**bound.arguments, **more}


MODELS = {
    "Model": keras_svag.SVAGModel,
    "Sequential": keras_svag.SVAGSequential,
}
OPTIMIZERS = {
    "SGD": with_signature_of(optimizers.SGD, keras_svag.SVAG),
    "Adam": with_signature_of(optimizers.Adam, keras_svag.SVAGAdam),
    "AdamW": with_signature_of(optimizers.AdamW, keras_svag.SVAGAdamW),
    "RMSprop": with_signature_of(optimizers.RMSprop, keras_svag.SVAGRMSprop),
}
# N and G are measured, but not logged: otherwise each test that reads the names of logs would fail,
# before the rest of it.
SplitBatchMixin._noise_logs = lambda self: {}
# Keras' tests of the trainer mix it with a layer of their own.
backend_trainer = importlib.import_module(f"keras.src.backend.{keras.backend.backend()}.trainer")
TRAINER = {"tensorflow": "TensorFlowTrainer", "jax": "JAXTrainer"}[keras.backend.backend()]
# By module, what its names become.
SUBSTITUTES = {
    backend_trainer: {
        TRAINER: type("SVAGTrainer", (SplitBatchMixin, getattr(backend_trainer, TRAINER)), {})
    },
    models: MODELS,
    models.model: {"Model": MODELS["Model"]},
    models.sequential: {"Sequential": MODELS["Sequential"]},
    keras.models: {name: MODELS[name] for name in ("Model", "Sequential")},
    keras: {name: MODELS[name] for name in ("Model", "Sequential")},
    optimizers: OPTIMIZERS,
    keras.optimizers: OPTIMIZERS,
    optimizers.sgd: {"SGD": OPTIMIZERS["SGD"]},
    optimizers.adam: {"Adam": OPTIMIZERS["Adam"]},
    optimizers.adamw: {"AdamW": OPTIMIZERS["AdamW"]},
    optimizers.rmsprop: {"RMSprop": OPTIMIZERS["RMSprop"]},
}


class ModuleView(types.ModuleType):
    """A module with other values for some names."""

    def __init__(self, module):
        super().__init__(module.__name__)
        vars(self)["_module"] = module

    def __getattr__(self, name):
        substitutes = SUBSTITUTES[self._module]
        return substitutes[name] if name in substitutes else view_of(getattr(self._module, name))

    def __setattr__(self, name, value):
        # What a test patches, Keras must see.
        setattr(self._module, name, value)


def view_of(value):
    """Returns a view of a module in which something is replaced, and other values unchanged."""
    is_replaced = isinstance(value, types.ModuleType) and value in SUBSTITUTES
    return ModuleView(value) if is_replaced else value


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Imports a test file with the names replaced, and replaces the modules that it knows."""
    if not isinstance(collector, pytest.Module):
        return (yield)
    with contextlib.ExitStack() as stack:
        for module, names in SUBSTITUTES.items():
            stack.enter_context(mock.patch.multiple(module, **names))
        report = yield
    if report.passed:
        for name, value in list(vars(collector.obj).items()):
            setattr(collector.obj, name, view_of(value))
    return report
