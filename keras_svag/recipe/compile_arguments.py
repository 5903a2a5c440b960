"""Checks of the optimizer and the metrics of a recipe, which each program creates anew."""

import keras
from keras import tree

from keras_svag._keras import get_learning_rate, has_decay_exclusions
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
    if has_decay_exclusions(optimizer):
        raise ValueError(
            "`optimizer` must decay all weights equally, as the theory and the scaling rules "
            "assume. Received: an optimizer with exclude_from_weight_decay(). Leave it out, or "
            "replace weight_decay by kernel_regularizer."
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
