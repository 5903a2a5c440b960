"""Checks of what a recipe compiles a network with: optimizer, loss, metrics."""

import functools

import keras
from keras import tree

from keras_svag._keras import get_learning_rate, has_variables_without_decay
from keras_svag.recipe.canonical import canonical_form


def check_optimizer(optimizer):
    """Raises if the optimizer cannot be recreated from its config."""
    rate, ell = get_learning_rate(optimizer), float(getattr(optimizer, "ell", 1.0))
    if callable(rate) and not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        raise ValueError(
            "`optimizer` must have a number or a schedule as its learning rate. "
            f"Received: optimizer.learning_rate={rate!r}, a function without arguments"
        )
    if ell != 1:
        raise ValueError(
            "`optimizer` must have ell=1: studies set ell themselves. "
            f"Received: optimizer.ell={ell:g}"
        )
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "`optimizer` must not accumulate gradients: a study counts a step for every batch, and "
            "keeps its data on the device. Received: optimizer.gradient_accumulation_steps="
            f"{optimizer.gradient_accumulation_steps}. Multiply batch_size by it instead, which "
            "takes the same steps."
        )
    if has_variables_without_decay(optimizer):
        raise ValueError(
            "`optimizer` must exclude weights from weight decay by name, since each run has a new "
            "network. Received: an optimizer with exclude_from_weight_decay(var_list=...). Use "
            "exclude_from_weight_decay(var_names=...)."
        )


def check_metrics(metrics):
    """Raises if a metric cannot be recreated from its config."""
    for metric in tree.flatten(metrics):
        if not isinstance(metric, keras.metrics.Metric):
            continue
        try:
            is_same = canonical_form(copy_metrics(metric)) == canonical_form(metric)
        except TypeError:  # an argument is missing
            is_same = False
        if not is_same:
            raise ValueError(
                "`metrics` must hold names, functions, or metrics whose get_config() returns all "
                "constructor arguments. Received: "
                f"{type(metric).__name__}, whose get_config() is incomplete"
            )


def copy_metrics(metrics):
    """Copies metrics without their state."""
    if isinstance(metrics, dict):
        return {name: copy_metrics(item) for name, item in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [copy_metrics(item) for item in metrics]
    if isinstance(metrics, keras.metrics.Metric):
        return type(metrics).from_config(metrics.get_config())
    return metrics


def check_labels(name, loss, y, outputs):
    """Raises if a label of sparse cross-entropy is no output; backends give NaN or a loss of 0."""
    if not tree.is_nested(loss):
        loss = tree.map_structure(lambda _: loss, outputs)
    elif isinstance(loss, dict) and isinstance(outputs, dict):
        loss = {key: loss.get(key, "") for key in outputs}
    try:
        tree.assert_same_structure(loss, outputs)
        tree.assert_same_structure(y, outputs)
    except (TypeError, ValueError):  # such as a list of outputs with losses by name: left to Keras
        return
    tree.map_structure(functools.partial(_check_labels, name), loss, y, outputs)


def _check_labels(name, loss, labels, outputs):
    axis = _axis_of_classes(loss)
    if axis is None or labels is None or not labels.size:
        return
    count = outputs.shape[axis]
    ignored = getattr(loss, "ignore_class", None)
    used = labels if ignored is None else labels[labels != ignored]
    if used.size and (used.min() < 0 or used.max() >= count):
        raise ValueError(
            f"`{name}` must hold labels from 0 to {count - 1}, the outputs of the network, for "
            f"sparse categorical cross-entropy. Received: labels from {used.min():g} to "
            f"{used.max():g}. Renumber the labels or add outputs."
        )


def _axis_of_classes(loss):
    """Axis of the classes in the outputs if the loss is sparse cross-entropy, else `None`."""
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        return loss.get_config().get("axis", -1)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", "")
    is_sparse = name.replace("_", "").lower() == "sparsecategoricalcrossentropy"
    return -1 if is_sparse else None
