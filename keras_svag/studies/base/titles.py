"""Titles of the measured quantities, by their names in `settings` of `verdict.json`."""

from keras_svag.studies.base.table import final_columns

WINDOW_TITLES = {
    "weight_norm": "R",
    "gradient_noise": "N",
    "gradient_signal": "G",
    "noise_to_signal": "N/G",
    "equilibrium_train_loss": "train loss (window)",
}


def end_titles(table):
    """Titles of the values at the end of a run: metrics on test data, or the training loss."""
    names = [name for name in final_columns(table) if name != "test_loss"] or ["train_loss"]
    return {name: f"{name.replace('_', ' ')} (end)" for name in names}


def end_quantities(settings):
    """Names of the values at the end of a run in a list of `settings`."""
    names = dict.fromkeys(name for setting in settings for name in setting)
    ends = [n for n in names if n == "train_loss" or n.startswith("test_")]
    return [n for n in ends if n not in ("test_loss", "test_accuracy_loss")] or ["train_loss"]


def curves_of(table):
    """Column, label and scale of the six training curves of a figure."""
    return [
        main_metric_curve(table),
        ("train_loss", "train loss", "log"),
        ("weight_norm", "R = |x|²", "log"),
        ("gradient_noise", "gradient noise N", "log"),
        ("gradient_signal", "gradient signal G", "log"),
        ("noise_to_signal", "N / G", "log"),
    ]


def main_metric_curve(table):
    """Column, label and scale of the first metric on test data, or of a loss."""
    names = final_columns(table)
    metrics = [name for name in names if name not in ("train_loss", "test_loss")]
    if metrics:
        return metrics[0], metrics[0].replace("_", " "), "linear"
    name = "test_loss" if "test_loss" in names else "loss"
    return name, name.replace("_", " "), "log"
