"""Every private name of Keras and TensorFlow that the package uses, in one place.

`tests/keras_private_test.py` fails when one of them moves, or when another one is used elsewhere.
"""

import keras
from keras import tree
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.models.functional import Functional as Functional
from keras.src.models.model import functional_init_arguments as functional_init_arguments
from keras.src.saving.keras_saveable import KerasSaveable as KerasSaveable
from keras.src.trainers.data_adapters import is_tf_dataset as is_tf_dataset
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter as PyDatasetAdapter
from keras.src.trainers.data_adapters.tf_dataset_adapter import TFDatasetAdapter as TFDatasetAdapter

# Methods of `keras.optimizers.Optimizer` that `AmplificationMixin` overrides.
OPTIMIZER_HOOKS = (
    "_apply_weight_decay",
    "_backend_apply_gradients",
    "_get_current_learning_rate",
    "_update_model_variables_moving_average",
)
# Attributes of `keras.optimizers.Optimizer` that it uses.
OPTIMIZER_ATTRIBUTES = (
    "_get_variable_index",
    "_iterations",
    "_learning_rate",
    "_track_variable",
    "_trainable_variables",
    "_use_weight_decay",
)
# Method of `keras.Model` that `SVAGModel` overrides on TensorFlow.
MODEL_HOOK = "_maybe_symbolic_build"
# What `keras.Model.compile` sets, as far as a model's own methods may read it.
COMPILED_STATE = (
    "compiled",
    "optimizer",
    "loss",
    "stop_training",
    "_compile_loss",
    "_compile_metrics",
    "_loss_tracker",
)
# Listed only: this file must not import TensorFlow, which may be missing.
TENSORFLOW_NAMES = (
    "tensorflow.__internal__.distribute.strategy_supports_no_merge_call",
    "tensorflow.python.util._pywrap_util_port.IsMklEnabled",
)


def build_for_training(model, batch):
    """Creates the variables of model, optimizer, loss and metrics, so that `fit` traces once."""
    model._symbolic_build(data_batch=batch)


def first_batch_under_strategy(model, epoch_iterator):
    """Returns the first batch of a `PyDataset` under a TensorFlow strategy, else `None`."""
    dataset = getattr(epoch_iterator.data_adapter, "py_dataset", None)
    return None if dataset is None or model._distribute_strategy is None else dataset[0]


def flatten_layers(model):
    """Yields the layers of a model, including those of nested models."""
    return model._flatten_layers()


def get_learning_rate(optimizer):
    """Returns the learning rate as the optimizer holds it: a variable, schedule or callable."""
    return optimizer._learning_rate


def counted_batches(optimizer):
    """Returns the number of batches that an optimizer has seen, the step of its schedule."""
    return int(optimizer._iterations.numpy())


def without_learning_rate(optimizer):
    """Returns a shallow copy of an optimizer that has no learning rate."""
    copy = object.__new__(type(optimizer))
    copy.__dict__.update(optimizer.__dict__, _learning_rate=None)
    return copy


def names_without_decay(optimizer):
    """Returns the sorted `var_names` of `exclude_from_weight_decay`, `[]` if there are none."""
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    # Keras joins them in an order that differs between processes.
    return sorted(pattern.pattern.split("|")) if pattern else []


def has_variables_without_decay(optimizer):
    """Returns True if `exclude_from_weight_decay` was called with variables themselves."""
    return bool(getattr(optimizer, "_exclude_from_weight_decay", None))


def excludes_from_decay(optimizer):
    """Returns True if `exclude_from_weight_decay` was called on an optimizer."""
    return bool(names_without_decay(optimizer)) or has_variables_without_decay(optimizer)


def copy_decay_exclusions(optimizer, other):
    """Excludes from the decay of an optimizer not built yet what is excluded from another's."""
    for name in ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"):
        if getattr(other, name, None):
            setattr(optimizer, name, getattr(other, name))


def decays_all(optimizer, weights):
    """Returns False if `exclude_from_weight_decay` leaves out one of the weights."""
    return all(optimizer._use_weight_decay(weight) for weight in weights)


def built_weights(optimizer):
    """Returns the weights that an optimizer was built with."""
    return optimizer._trainable_variables


def accumulation_state(optimizer, weights):
    """Returns how many gradients an optimizer has accumulated, and their sums by weight."""
    position = optimizer._iterations % optimizer.gradient_accumulation_steps
    indices = [optimizer._get_variable_index(weight) for weight in weights]
    return position, [optimizer._accumulated_gradients[i] for i in indices]


def is_overwritten(variable):
    """Returns True if Keras assigns a variable its gradient: scales and histories of float8."""
    return getattr(variable, "overwrite_with_gradient", False)


def learned_weights(model):
    """Returns the trainable weights of a model that follow the gradient of the loss."""
    return [weight for weight in model.trainable_weights if not is_overwritten(weight)]


def overrides(model, method):
    """Returns True if the class of a model does not have this method from `keras.Model`."""
    return getattr(type(model), method) is not getattr(keras.Model, method)


def has_training_argument(model):
    """Returns True if the model's `call` has an argument `training`."""
    return model._call_has_training_arg


def training_argument(model, training):
    """Returns `{"training": training}`, or `{}` if the model's `call` has no such argument."""
    return {"training": training} if has_training_argument(model) else {}


def call_for_training(model, x):
    """Runs the forward pass in training mode, also if `call` has no `training` argument."""
    return model(x, **training_argument(model, True))


def join_masks(first, second, joined, join):
    """Gives `joined` the joined Keras masks of two tensors, if both have one."""
    masks = [get_keras_mask(tensor) for tensor in (first, second)]
    if all(mask is not None for mask in masks):
        set_keras_mask(joined, join(*masks))
    return joined


def get_masks(structure):
    """Returns the Keras masks of the tensors of a structure, `None` for those without."""
    return [get_keras_mask(tensor) for tensor in tree.flatten(structure)]


def set_masks(structure, masks):
    """Gives the tensors of a structure the masks of `get_masks`; returns the structure."""
    for tensor, mask in zip(tree.flatten(structure), masks):
        if mask is not None:
            set_keras_mask(tensor, mask)
    return structure


def compute_loss(model, x, y, y_pred, sample_weight, training=True):
    """Returns the total loss, a scalar, also if `compute_loss` has no `training` argument."""
    return model._compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
    )


def track_loss(model, loss, sample_weight):
    """Adds `loss` to the mean that `fit` logs as "loss"."""
    model._loss_tracker.update_state(
        unscale_loss_for_distribution(loss), sample_weight=sample_weight
    )
