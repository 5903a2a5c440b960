"""Titles of the measured quantities, and parts of sentences that recommendations share."""

from keras_svag._checks import english_list
from keras_svag.report.labels import label_of
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
    columns = "train_loss", "weight_norm", "gradient_noise", "gradient_signal", "noise_to_signal"
    return [main_metric_curve(table), *(log_curve(column) for column in columns)]


def main_metric_curve(table):
    """Column, label and scale of the first metric on test data, or of a loss."""
    names = final_columns(table)
    metrics = [name for name in names if name not in ("train_loss", "test_loss")]
    if metrics:
        return metrics[0], label_of(metrics[0]), "linear"
    return log_curve("test_loss" if "test_loss" in names else "loss")


def log_curve(column):
    """Column, label and scale of a positive quantity."""
    return column, label_of(column), "log"


def batch_sizes(sizes):
    """`batch size 8`, or `batch sizes 8 and 16`."""
    plural = "s" if len(sizes) > 1 else ""
    return f"batch size{plural} {english_list([str(size) for size in sizes])}"


def add_sizes(which, study):
    """Asks to add batch sizes to the grid of a study."""
    return f"Add sizes {which} to {flag(study, f'{study.name}.batch_sizes')}, on the same workdir,"


def run_again(sizes, change, effect, verdict="verdict"):
    """Recommends another run on the same workdir where the verdict is inconclusive."""
    return (
        f"At {batch_sizes(sizes)}, the {verdict} is inconclusive. Run the study again with "
        f"{change} on the same workdir: finished runs are kept, and {effect}."
    )


def flag(study, name, value=None):
    """A field as users set it: `--config.name=value` of a trainer, `name=value` in Python."""
    if not _is_from_trainer(study):
        return _assignment(name.removeprefix(f"{study.name}."), value)
    return _assignment(f"--config.{name}", value)


def hyperparameter(study, name, value=None):
    """The same for a hyperparameter, which in a recipe of the user's own no flag can change."""
    if study.config is not None and "recipe" not in study.config:
        return flag(study, name, value)
    return f"{_assignment(name, value)} in the recipe"


def _assignment(name, value):
    return name if value is None else f"{name}={value}"


def _is_from_trainer(study):
    """Returns True if a trainer made the study, from a config or a recipe in a file."""
    if study.config is None:
        return getattr(study.recipe, "source", None) is not None
    recipe = study.config.get("recipe")
    return recipe is None or recipe.get("source") is not None


def on_failed_runs(study, details):
    """Recommends a lower learning rate if runs failed, in a list of at most one item."""
    failed = len(details["failed_runs"])
    if not failed:
        return []
    return [
        f"{failed} run{'s' * (failed > 1)} failed. If they diverged, use a lower learning rate "
        f"({hyperparameter(study, 'learning_rate')}) on another workdir."
    ]
