"""`from_keras`: the split-batch train step for existing Keras models."""

import keras

from keras_svag import _keras
from keras_svag.trainer.model import SVAGFunctional, SVAGModel, SVAGSequential


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGWrapper(SVAGModel):
    """An `SVAGModel` that wraps a subclassed model and uses its weights, loss and metrics."""

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        view = _view_trained_by(model, self)
        # In a function, because Keras would save the weights of the view beside those of the model.
        self._view = lambda: view

    def build(self, *args, **kwargs):
        """Does nothing: the wrapped model builds itself when it is called."""

    def call(self, *args, training=None, **kwargs):
        """Calls the wrapped model."""
        # `training` is in the signature because Keras looks for it there.
        if _keras.has_training_argument(self.model):
            kwargs["training"] = training
        return self.model(*args, **kwargs)

    @property
    def metrics(self):
        """All metrics: those of the wrapped model, and noise and signal."""
        metrics = self._view().metrics
        ids = set(map(id, metrics))
        return metrics + [metric for metric in super().metrics if id(metric) not in ids]

    @property
    def _logs_are_metric_results(self):
        return type(self.model).compute_metrics is keras.Model.compute_metrics

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Computes the loss with the `compute_loss` of the wrapped model."""
        return _keras.compute_loss(self._view(), x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Computes the metrics with the `compute_metrics` of the wrapped model."""
        return self._view().compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    def get_metrics_result(self):
        """Returns the metrics of the wrapped model, without noise and signal."""
        return self._view().get_metrics_result()

    def reset_metrics(self):
        """Resets all metrics."""
        super().reset_metrics()
        self._view().reset_metrics()

    def get_config(self):
        """Returns the arguments of the constructor, for serialization."""
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Creates the wrapper and the wrapped model from a config."""
        model = keras.saving.deserialize_keras_object(config.pop("model"), custom_objects)
        return cls(model, **config)


def _view_trained_by(model, wrapper):
    """Returns a view of a model for its own methods, in which a wrapper has been compiled for it.

    View and model have the same attributes, except for what `compile` sets: that is the wrapper's.
    """

    def of_wrapper(name):
        return property(
            lambda view: getattr(wrapper, name), lambda view, value: setattr(wrapper, name, value)
        )

    compiled_state = {name: of_wrapper(name) for name in _keras.COMPILED_STATE}
    view = object.__new__(type(type(model).__name__, (type(model),), compiled_state))
    object.__setattr__(view, "__dict__", model.__dict__)
    return view


def from_keras(model: keras.Model) -> SVAGModel:
    """Converts a Keras model to one with the split-batch train step of `SVAGModel`.

    The weights are shared: training the result also trains the original, which can still be used,
    for example for export. The result is not compiled.

    Args:
        model: A functional, `Sequential` or subclassed `keras.Model`. It must not define its own
            `train_step`, `test_step` or `make_train_function`.

    Returns:
        An `SVAGFunctional`, an `SVAGSequential`, or for a subclassed model an `SVAGModel` that
        wraps it and uses its `compute_loss` and `compute_metrics`. An `SVAGModel` is returned
        unchanged.

    Raises:
        ValueError: If `model` is not a Keras model, or overrides one of these methods.

    Example:

    >>> model = from_keras(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    >>> type(model).__name__
    'SVAGSequential'
    """
    if isinstance(model, SVAGModel):
        return model
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: model={model!r}")
    for method in ("train_step", "test_step", "make_train_function"):
        if getattr(type(model), method) is not getattr(keras.Model, method):
            raise ValueError(
                f"`model` must not define its own `{method}`, which would be ignored. "
                f"Received: model={model!r} of {type(model)}. Override `compute_loss` or "
                "`compute_metrics` instead, or subclass keras_svag.SVAGModel."
            )
    if type(model) is keras.Sequential:
        # `Sequential.layers` omits the input, without which the result would not be built.
        inputs = (model.built and model.inputs) or []
        inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
        return SVAGSequential([*inputs, *model.layers], name=model.name)
    if type(model) is _keras.Functional:
        return SVAGFunctional(model.input, model.output, name=model.name)
    return SVAGWrapper(model, name=f"svag_{model.name}")
