"""Every private name of Keras that the package relies on, in one place.

`tests/keras_private_test.py` fails when one of them moves. The optimizer mixin also overrides
four private methods of `keras.optimizers.Optimizer`; they are listed in `OPTIMIZER_HOOKS`.
"""

from keras import tree
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.models.functional import Functional
from keras.src.models.model import functional_init_arguments
from keras.src.utils.tracking import no_automatic_dependency_tracking

OPTIMIZER_HOOKS = (
    "_apply_weight_decay",
    "_backend_apply_gradients",
    "_get_current_learning_rate",
    "_update_model_variables_moving_average",
)

# `SVAGModel` overrides it on TensorFlow.
MODEL_HOOK = "_maybe_symbolic_build"

__all__ = [
    "MODEL_HOOK",
    "OPTIMIZER_HOOKS",
    "Functional",
    "build_for_training",
    "call_for_training",
    "first_batch_under_strategy",
    "functional_init_arguments",
    "has_decay_exclusions",
    "has_training_argument",
    "join_masks",
    "loss_for_training",
    "masks_of",
    "share_compiled_state",
    "track_loss",
    "training_argument",
    "with_masks",
]


def build_for_training(model, batch):
    """Creates the variables of model, optimizer, loss and metrics, so that `fit` traces once."""
    model._symbolic_build(data_batch=batch)


def first_batch_under_strategy(model, epoch_iterator):
    """The first batch of a `PyDataset` in `fit` under a strategy of TensorFlow; else `None`."""
    dataset = getattr(epoch_iterator.data_adapter, "py_dataset", None)
    return None if dataset is None or model._distribute_strategy is None else dataset[0]


def has_decay_exclusions(optimizer):
    """Whether `exclude_from_weight_decay` was called on an optimizer."""
    names = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
    return any(getattr(optimizer, name, None) for name in names)


def has_training_argument(model):
    """Whether the model's `call` has an argument `training`."""
    return model._call_has_training_arg


def training_argument(model, training):
    """`{"training": training}`, or `{}` for a model whose `call` has no such argument."""
    return {"training": training} if has_training_argument(model) else {}


def call_for_training(model, x):
    """Forward pass in training mode, also for a `call` that has no `training` argument."""
    return model(x, **training_argument(model, True))


def join_masks(first, second, joined, join):
    """Gives `joined` the Keras masks of two tensors, joined, if they have any."""
    masks = [get_keras_mask(tensor) for tensor in (first, second)]
    if all(mask is not None for mask in masks):
        set_keras_mask(joined, join(*masks))
    return joined


def masks_of(structure):
    """The Keras masks of the tensors of a structure, a list with `None` for those without."""
    return [get_keras_mask(tensor) for tensor in tree.flatten(structure)]


def with_masks(structure, masks):
    """Gives the tensors of a structure the masks of `masks_of`; returns the structure."""
    for tensor, mask in zip(tree.flatten(structure), masks):
        if mask is not None:
            set_keras_mask(tensor, mask)
    return structure


def loss_for_training(model, x, y, y_pred, sample_weight):
    """The model's total loss (a scalar), also for a `compute_loss` without `training`."""
    return model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)


def track_loss(model, loss, sample_weight):
    """Adds `loss` to the mean that `fit` logs as "loss"."""
    model._loss_tracker.update_state(
        unscale_loss_for_distribution(loss), sample_weight=sample_weight
    )


@no_automatic_dependency_tracking
def share_compiled_state(source, target):
    """Lets `target.compute_loss` and `.compute_metrics` use what `source` was compiled with."""
    target._compile_loss = source._compile_loss
    target._compile_metrics = source._compile_metrics
