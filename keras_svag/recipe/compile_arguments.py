"""What a recipe gives to `compile`: checks that it can be made anew for each program."""

import keras
from keras import tree

from keras_svag._keras import get_learning_rate, has_decay_exclusions
from keras_svag.recipe.canonical import plain


def check_optimizer(optimizer):
    """Raises where an optimizer has something that one made from its settings would not have."""
    rate, ell = get_learning_rate(optimizer), float(getattr(optimizer, "ell", 1.0))
    if callable(rate) and not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        raise ValueError(
            "`optimizer.learning_rate` must be a number or a schedule of the step. "
            f"Received: {rate!r}, a function without arguments"
        )
    if ell != 1:
        raise ValueError(
            "`optimizer` must have ell=1, that of the run in question: studies set ell. "
            f"Received: ell={ell:g}"
        )
    if has_decay_exclusions(optimizer):
        raise ValueError(
            "`optimizer` must decay all weights alike, as theory and scaling rules have it. "
            "Received: one with exclude_from_weight_decay(). Leave it out, or give kernels a "
            "kernel_regularizer in place of weight_decay."
        )


def check_metrics(metrics):
    """Raises where a metric would not be made anew as it is."""
    for metric in tree.flatten(metrics):
        if isinstance(metric, keras.metrics.Metric):
            try:
                is_same = plain(copy_metrics(metric)) == plain(metric)
            except TypeError:  # an argument is missing
                is_same = False
            if not is_same:
                raise ValueError(
                    "`metrics` must hold names, functions, or metrics whose get_config() has all "
                    "arguments of their constructor: each run makes them anew. Received: "
                    f"{type(metric).__name__}, whose get_config() has not"
                )


def copy_metrics(metrics):
    """The same metrics without state."""
    if isinstance(metrics, dict):
        return {name: copy_metrics(item) for name, item in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        return [copy_metrics(item) for item in metrics]
    if isinstance(metrics, keras.metrics.Metric):
        return type(metrics).from_config(metrics.get_config())
    return metrics
