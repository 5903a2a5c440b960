"""`from_keras`: the split-batch train step for existing Keras models."""

import keras

from keras_svag import _keras
from keras_svag.trainer.model import SVAGFunctional, SVAGModel, SVAGSequential

# Overrides of these are used. What they hand to Keras' version, by `super()`, goes to the wrapper:
# this is how a KerasHub task preprocesses its data.
DELEGATED_METHODS = (
    "compile",
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "predict_on_batch",
)
# Overrides of these would have to be mixed with the steps of the wrapper.
REFUSED_METHODS = (
    "train_step",
    "test_step",
    "predict_step",
    "make_train_function",
    "make_test_function",
    "make_predict_function",
)


@keras.saving.register_keras_serializable(package="keras_svag")
class SVAGWrapper(SVAGModel):
    """An `SVAGModel` that wraps a subclassed model and uses its weights, loss and metrics.

    Methods such as `fit` that the wrapped model overrides are called too.
    """

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        self._fit_was_reached = False
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
        return not _keras.overrides(self.model, "compute_metrics")

    @property
    def output_names(self):
        """Names of the outputs, by which losses and metrics in a dict are assigned to them."""
        return self.model.output_names

    def compile(self, *args, **kwargs):
        """Compiles the model, as the wrapped model does."""
        self._view().compile(*args, **kwargs)

    def compile_from_config(self, config):
        """Compiles a model that was loaded from a file."""
        if _keras.overrides(self.model, "compile"):
            # Keras cannot know the arguments of an override: it warns, and does not compile.
            super().compile_from_config(config)
            return
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """Trains the model on the data that the wrapped model's `fit` makes of its arguments."""
        self._fit_was_reached = False
        history = self._view().fit(*args, **kwargs)
        if not self._fit_was_reached:
            raise ValueError(
                "The `fit` of `model` must call `super().fit`, whose train step `from_keras` "
                f"replaces. Received: model={self.model!r} of {type(self.model)}, which trained "
                "without. Override `compute_loss` instead, or subclass keras_svag.SVAGModel."
            )
        return history

    def evaluate(self, *args, **kwargs):
        """Evaluates the model, as the wrapped model does."""
        return self._view().evaluate(*args, **kwargs)

    def predict(self, *args, **kwargs):
        """Returns predictions, as the wrapped model does."""
        return self._view().predict(*args, **kwargs)

    def train_on_batch(self, *args, **kwargs):
        """Takes a step on one batch, as the wrapped model prepares it."""
        return self._view().train_on_batch(*args, **kwargs)

    def test_on_batch(self, *args, **kwargs):
        """Evaluates the model on one batch, as the wrapped model does."""
        return self._view().test_on_batch(*args, **kwargs)

    def predict_on_batch(self, *args, **kwargs):
        """Returns predictions for one batch, as the wrapped model does."""
        return self._view().predict_on_batch(*args, **kwargs)

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
    """Returns a view of a model for its own methods, which compile and train a wrapper instead."""
    # View and model share their attributes, except for what `compile` sets: that is the wrapper's.

    def of_wrapper(name):
        return property(
            lambda view: getattr(wrapper, name), lambda view, value: setattr(wrapper, name, value)
        )

    def redirected(name):
        def method(view, *args, **kwargs):
            wrapper._fit_was_reached |= name == "fit"
            return getattr(SVAGModel, name)(wrapper, *args, **kwargs)

        return method

    # Second among the bases, so just before `keras.Model`, where `super()` leads in an override.
    redirection = type("", (keras.Model,), {name: redirected(name) for name in DELEGATED_METHODS})
    compiled_state = {name: of_wrapper(name) for name in _keras.COMPILED_STATE}
    view = object.__new__(type(type(model).__name__, (type(model), redirection), compiled_state))
    object.__setattr__(view, "__dict__", model.__dict__)
    return view


def from_keras(model: keras.Model) -> SVAGModel:
    """Converts a Keras model to one with the split-batch train step of `SVAGModel`.

    The weights are shared: training the result also trains the original, which can still be used,
    for example for export. The result is not compiled.

    Args:
        model: A functional, `Sequential` or subclassed `keras.Model`, such as a KerasHub task. It
            must not define its own `train_step`, `test_step` or `predict_step`, nor
            `make_train_function` and the like.

    Returns:
        An `SVAGFunctional`, an `SVAGSequential`, or for a subclassed model an `SVAGModel` that
        wraps it and uses its `compute_loss` and `compute_metrics`. If it overrides `compile`,
        `fit`, `evaluate` or `predict`, or those on one batch, these are called too, and what they
        hand to `super()` reaches the new train step: the data of a KerasHub task pass through its
        preprocessor. An `SVAGModel` is returned unchanged.

    Raises:
        ValueError: If `model` is not a Keras model, or overrides one of the methods named above;
            in `fit`, if its own `fit` does not call `super().fit`.

    Example:

    >>> model = from_keras(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
    >>> type(model).__name__
    'SVAGSequential'
    """
    if isinstance(model, SVAGModel):
        return model
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a keras.Model. Received: model={model!r}")
    for method in REFUSED_METHODS:
        if _keras.overrides(model, method):
            raise ValueError(
                f"`model` must not define its own `{method}`, which would be ignored. "
                f"Received: model={model!r} of {type(model)}. Override `compute_loss` or "
                "`compute_metrics` instead, or subclass keras_svag.SVAGModel. For advice only, "
                "BatchSizeAdvisor takes the model as it is, with gradient_accumulation_steps."
            )
    if type(model) is keras.Sequential:
        # `Sequential.layers` omits the input, without which the result would not be built.
        inputs = (model.built and model.inputs) or []
        inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in inputs]
        return SVAGSequential([*inputs, *model.layers], name=model.name)
    if type(model) is _keras.Functional:
        return SVAGFunctional(model.input, model.output, name=model.name)
    return SVAGWrapper(model, name=f"svag_{model.name}")
