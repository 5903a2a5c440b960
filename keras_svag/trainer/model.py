"""`SVAGModel` and `from_keras`: Keras models whose train step splits its batch in two halves.

One class cannot be all: Keras turns `Model(inputs, outputs)` into a functional model by rewriting
the bases of the class, after which that class can no longer be subclassed. So `SVAGModel`
dispatches to leaves, `SVAGFunctional` and `SVAGSequential`, which are subclasses of it.
"""

import typing

import keras

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag.optimizers import AmplificationMixin
from keras_svag.trainer.noise import METRIC_NAMES, GradientStatistics

BackendStep: typing.Any = backend_module(__package__).BackendStep
SMALLEST_BATCH = 2


class SplitBatchMixin(BackendStep):
    """What all SVAG models share, whatever the backend."""

    # Exactly these argument names: with others Keras does not revive functional models.
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._measure_noise = True
        self._gradient_statistics = GradientStatistics()

    @property
    def measure_noise(self):
        """Whether training logs noise and signal; assignable before `fit`. True by default."""
        return self._measure_noise

    @measure_noise.setter
    def measure_noise(self, value):
        self._measure_noise = bool(value)
        self.train_function = None

    @property
    def _svag(self):
        """The SVAG optimizer this model was compiled with, or `None` if it is another one."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return optimizer if isinstance(optimizer, AmplificationMixin) else None

    def get_metrics_result(self):
        """Metric values without noise and signal, which are measured in training only.

        Returns:
            A dict of metric names and values.
        """
        results = super().get_metrics_result()
        return {name: value for name, value in results.items() if name not in METRIC_NAMES}

    @property
    def _logs_are_metric_results(self):
        """Whether the logs of a step can be had afterwards, from the metrics alone."""
        return _logs_metrics(self, self)

    def _noise_logs(self):
        return self._gradient_statistics.result() if self.measure_noise else {}

    def _check_batch_length(self, length, replicas=1):
        if length is not None and length < SMALLEST_BATCH:
            raise ValueError(
                "`batch_size` must be at least 2, one example for each half of an SVAG step. "
                f"Received: batch_size={length}. "
                "Pass `batch_size=2 * B` to `fit`, with B the batch size of the SGD run."
            )
        if length is not None and length % (2 * replicas) and replicas > 1:
            raise ValueError(
                f"`batch_size` must be a multiple of {2 * replicas}, twice the number of replicas, "
                "so that each gets its share of both halves. "
                f"Received: batch_size={length}. Use another batch size, or fewer devices."
            )


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGModel(SplitBatchMixin, keras.Model):
    """A `keras.Model` whose train step differentiates both halves of its batch.

    Compiled with `keras_svag.SVAG` it takes SVAG steps: a batch of `2 B` examples is split into
    its even and its odd positions, each half has its own forward pass (and its own batch-norm
    statistics; both update the moving averages, in order), and the two gradients are combined
    into `r1 g1 + r2 g2`. Compiled with any other optimizer it takes that optimizer's step on the
    whole batch (with batch norm or dropout, each half still has its own statistics and masks).

    Either way the training logs hold, besides loss and metrics of both halves,

    - `gradient_noise`: N, trace of the covariance of the gradient of one half,
    - `gradient_signal`: G, squared norm of the gradient of the expected loss,
    - `noise_to_signal`: N/G, the ratio of the means.

    Weight regularisers are left out of N and G; an `add_loss` that does not depend on data cannot
    be told apart and stays in. `evaluate` and `val_` logs do not have these three.

    Use it like `keras.Model`: `SVAGModel(inputs, outputs)`, or subclass it and write `call`.
    For a model that you have already, see `keras_svag.from_keras`.

    A batch of odd length: with `SVAG` its last example is left out; with another optimizer the
    halves are weighted by their sizes. A last batch of one example is used as both halves and is
    left out of N and G; a `batch_size` of 1 is an error.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470).

    Args:
        *args: As for `keras.Model`.
        **kwargs: As for `keras.Model`.

    Raises:
        ValueError: in `fit`, if `batch_size` is 1.

    Example:

    >>> inputs = keras.Input((4,))
    >>> model = SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    >>> model.compile(keras_svag.SVAG(0.1, ell=2), loss="mse", jit_compile=True)
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=2 * 4, verbose=0)
    >>> "gradient_noise" in history.history
    True
    """

    def __new__(cls, *args, **kwargs):
        """Gives an `SVAGFunctional` for `SVAGModel(inputs, outputs)`."""
        if cls is SVAGModel and _keras.functional_init_arguments(args, kwargs):
            return SVAGFunctional.__new__(SVAGFunctional, *args, **kwargs)
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        # Sequential(layers, trainable) has two arguments as well.
        is_settled = isinstance(self, (_keras.Functional, keras.Sequential))
        if not is_settled and _keras.functional_init_arguments(args, kwargs):
            # `super().__init__(inputs, outputs)` of a subclass. Keras would rewrite the bases of
            # every class up to its own; this rewrites the user's class alone.
            _make_functional(type(self))
        super().__init__(*args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGFunctional(SVAGModel, _keras.Functional):
    """What `SVAGModel(inputs, outputs)` gives: an `SVAGModel` that is a functional model."""


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGSequential(SVAGModel, keras.Sequential):
    """A `keras.Sequential` with the train step of `SVAGModel`.

    Args:
        *args: As for `keras.Sequential`.
        **kwargs: As for `keras.Sequential`.

    Example:

    >>> model = SVAGSequential([keras.Input((4,)), keras.layers.Dense(1)])
    """


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGWrapper(SVAGModel):
    """An `SVAGModel` around a subclassed model, whose weights, loss and metrics it uses.

    Args:
        model: the subclassed `keras.Model`.
        **kwargs: As for `keras.Model`.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model

    def build(self, *args, **kwargs):
        """Does nothing: the wrapped model builds itself when it is called."""

    def call(self, *args, training=None, **kwargs):
        """Calls the wrapped model."""
        # Without `training` in this signature Keras would take it for a model that has no modes.
        if _keras.has_training_argument(self.model):
            kwargs["training"] = training
        return self.model(*args, **kwargs)

    @property
    def metrics(self):
        """All metrics, those that the wrapped model made for itself included."""
        # Keras leaves out the metrics of models inside models.
        own = super().metrics
        known = set(map(id, own))
        return own + [metric for metric in self.model.metrics if id(metric) not in known]

    @property
    def _logs_are_metric_results(self):
        return _logs_metrics(self, self.model)

    def compute_loss(self, *args, **kwargs):
        """The wrapped model's loss, its own `compute_loss` included."""
        _keras.share_compiled_state(self, self.model)
        return self.model.compute_loss(*args, **kwargs)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The wrapped model's metrics, its own `compute_metrics` included."""
        _keras.share_compiled_state(self, self.model)
        own = self.model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
        return {**own, **self.get_metrics_result()}

    def get_config(self):
        """Returns the arguments of the constructor, for serialization."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Rebuilds the wrapper and the model in it."""
        model = keras.saving.deserialize_keras_object(config.pop("model"), custom_objects)
        return cls(model, **config)


def _logs_metrics(model, inner):
    """Whether a model's step logs metric results; `inner` is the one whose metrics they are."""
    own_step = type(model).train_step is not BackendStep.train_step
    return not own_step and type(inner).compute_metrics is keras.Model.compute_metrics


def _make_functional(cls):
    if cls is SVAGModel:
        return SVAGFunctional
    if issubclass(cls, SVAGModel):
        cls.__bases__ = tuple(_make_functional(base) for base in cls.__bases__)
    return cls


def _inputs_of(sequential):
    return sequential.inputs if sequential.built and sequential.inputs else []


def _check_own_methods(model):
    for method in ("train_step", "test_step", "make_train_function"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise ValueError(
                f"`model` must not define its own `{method}`: it would be ignored. "
                f"Received: model={model!r} of {type(model)}. Put what is special into "
                "`compute_loss` or `compute_metrics`, or subclass keras_svag.SVAGModel."
            )


def from_keras(model):
    """Gives a Keras model the split-batch train step; the weights are shared.

    The original stays usable (for export, say) and trains along, since both hold the same
    variables. The result is not compiled.

    Args:
        model: a functional, `Sequential` or subclassed `keras.Model`.

    Returns:
        An `SVAGModel` of the same kind: `SVAGFunctional`, `SVAGSequential`, or a wrapper around a
        subclassed model that keeps using its `compute_loss` and `compute_metrics`. A model that
        is an `SVAGModel` already is returned as it is.

    Raises:
        ValueError: if `model` is not a Keras model, or has a `train_step` or `test_step` of its
            own.

    Example:

    >>> model = from_keras(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    >>> type(model).__name__
    'SVAGSequential'
    """
    if isinstance(model, SVAGModel):
        return model
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: model={model!r}")
    _check_own_methods(model)
    if type(model) is keras.Sequential:
        # `Sequential.layers` hides the input, without which the result would not be built.
        inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in _inputs_of(model)]
        return SVAGSequential([*inputs, *model.layers], name=model.name)
    if type(model) is _keras.Functional:
        return SVAGFunctional(model.input, model.output, name=model.name)
    return SVAGWrapper(model, name=f"svag_{model.name}")
