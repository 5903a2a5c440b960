"""`SVAGModel` and `from_keras`: Keras models with the split-batch train step."""

import typing

import keras

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag.optimizers import AmplificationMixin
from keras_svag.trainer.noise import METRIC_NAMES, GradientStatistics
from keras_svag.trainer.record import record_of

BackendStep: typing.Any = backend_module(__package__).BackendStep
SMALLEST_BATCH = 2


class SplitBatchMixin(BackendStep):
    """Attributes and logs that all SVAG models have, on any backend."""

    # Keras revives functional models only with exactly these argument names.
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._measure_noise = True
        self._gradient_statistics = GradientStatistics()
        record_of(self)  # here, so that a file that is loaded restores it

    @property
    def measure_noise(self):
        """True if training logs noise and signal (default); may be assigned between fits."""
        return self._measure_noise

    @measure_noise.setter
    def measure_noise(self, value):
        self._measure_noise = bool(value)
        self.train_function = None

    @property
    def _svag(self):
        """The SVAG optimizer that the model was compiled with, or `None`."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return optimizer if isinstance(optimizer, AmplificationMixin) else None

    def get_metrics_result(self):
        """Returns the metrics without noise and signal, which are measured in training only."""
        results = super().get_metrics_result()
        return {name: value for name, value in results.items() if name not in METRIC_NAMES}

    @property
    def _logs_are_metric_results(self):
        """True if the logs of a step can be computed afterwards, from the metrics alone."""
        own_step = type(self).train_step is not BackendStep.train_step
        return not own_step and not _keras.overrides(self, "compute_metrics")

    def _noise_logs(self):
        return self._gradient_statistics.result() if self.measure_noise else {}

    def _train_logs(self):
        return {**self.get_metrics_result(), **self._noise_logs()}

    def _check_batch_length(self, length, replicas=1):
        if length is not None and length < SMALLEST_BATCH:
            raise ValueError(
                "`batch_size` must be at least 2, one example for each half of an SVAG step. "
                f"Received: batch_size={length}. Pass `batch_size=2 * B` to `fit`, where B is the "
                "batch size of the SGD run."
            )
        if length is not None and length % (2 * replicas) and replicas > 1:
            raise ValueError(
                f"`batch_size` must be a multiple of {2 * replicas}, twice the number of replicas. "
                f"Received: batch_size={length}. Use another batch size, or fewer devices."
            )


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGModel(SplitBatchMixin, keras.Model):
    """A `keras.Model` whose train step differentiates both halves of its batch.

    Compiled with `keras_svag.SVAG`, it takes SVAG steps. A batch of `2 * B` examples is split into
    its even and odd positions; each half has a forward pass of its own (with batch-norm statistics
    of its own; both update the moving averages), and the two gradients are combined into
    `r1 * g1 + r2 * g2`. Compiled with any other optimizer, it takes the step of that optimizer on
    the whole batch; statistics of batch norm and dropout masks are still those of each half.

    In both cases the training logs contain, besides the loss and the metrics,

    - `gradient_noise`: N, the trace of the covariance of the gradient of one half,
    - `gradient_signal`: G, the squared norm of the gradient of the expected loss,
    - `noise_to_signal`: N/G, the ratio of the means.

    Weight regularizers are excluded from N and G; an `add_loss` that does not depend on data is
    not. The three are not measured in `evaluate` and validation.

    Use it like `keras.Model`: call `SVAGModel(inputs, outputs)`, or subclass it and implement
    `call`. To convert an existing model, use `keras_svag.from_keras`.

    If a batch has an odd length, SVAG drops its last example; with another optimizer the halves are
    weighted by their sizes. A last batch of a single example is used as both halves and excluded
    from N and G.

    Reference: [Li, Malladi, Arora, 2021](https://arxiv.org/abs/2102.12470).

    Args:
        *args: Positional arguments of `keras.Model`.
        **kwargs: Keyword arguments of `keras.Model`.

    Attributes:
        measure_noise: Boolean, whether training logs N and G. May be assigned between fits. `True`
            by default.

    Raises:
        ValueError: In `fit`, if `batch_size` is 1, or the batches cannot be split equally over
            replicas.

    Example:

    >>> inputs = keras.Input((4,))
    >>> model = SVAGModel(inputs, keras.layers.Dense(1)(inputs))
    >>> model.compile(keras_svag.SVAG(0.1, ell=2), loss="mse", jit_compile=True)
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=2 * 4, verbose=0)
    >>> "gradient_noise" in history.history
    True
    """

    def __new__(cls, *args, **kwargs):
        """Returns an `SVAGFunctional` for `SVAGModel(inputs, outputs)`."""
        # Keras turns `Model(inputs, outputs)` into a functional model by rewriting the bases of
        # the class, which can then no longer be subclassed. So this dispatches to a subclass.
        if cls is SVAGModel and _keras.functional_init_arguments(args, kwargs):
            return SVAGFunctional.__new__(SVAGFunctional, *args, **kwargs)
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        # Sequential(layers, trainable) has two arguments as well.
        has_kind = isinstance(self, (_keras.Functional, keras.Sequential))
        if not has_kind and _keras.functional_init_arguments(args, kwargs):
            # `super().__init__(inputs, outputs)` of a subclass. Keras would rewrite the bases of
            # all classes up to its own; this rewrites only the user's class.
            _make_functional(type(self))
        super().__init__(*args, **kwargs)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGFunctional(SVAGModel, _keras.Functional):
    """A functional model with the train step of `SVAGModel`.

    `SVAGModel(inputs, outputs)` returns an instance of this class.

    Args:
        *args: Positional arguments of `keras.Model`.
        **kwargs: Keyword arguments of `keras.Model`.

    Example:

    >>> inputs = keras.Input((4,))
    >>> type(SVAGModel(inputs, keras.layers.Dense(1)(inputs))).__name__
    'SVAGFunctional'
    """


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGSequential(SVAGModel, keras.Sequential):
    """A `keras.Sequential` with the train step of `SVAGModel`.

    Args:
        *args: Positional arguments of `keras.Sequential`.
        **kwargs: Keyword arguments of `keras.Sequential`.

    Example:

    >>> model = SVAGSequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.output_shape
    (None, 1)
    """


def _make_functional(cls):
    if cls is SVAGModel:
        return SVAGFunctional
    if issubclass(cls, SVAGModel):
        cls.__bases__ = tuple(_make_functional(base) for base in cls.__bases__)
    return cls
