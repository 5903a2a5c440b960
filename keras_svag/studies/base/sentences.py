"""Parts of sentences that recommendations share."""

from keras_svag._checks import english_list


def batch_sizes(sizes):
    """`batch size 8`, or `batch sizes 8 and 16`."""
    plural = "s" if len(sizes) > 1 else ""
    return f"batch size{plural} {english_list([str(size) for size in sizes])}"


def add_sizes(which, study):
    """Asks to add batch sizes to a study's grid."""
    return f"Add sizes {which} to {flag(f'{study}.batch_sizes')}, on the same workdir,"


def flag(name, value=None):
    """A flag of the trainers, `--config.name=value`."""
    return f"--config.{name}" + ("" if value is None else f"={value}")


def hyperparameter(study, name, value=None):
    """A flag too, or the argument in a recipe of one's own, which no flag can change."""
    if study.config is not None and "recipe" not in study.config:
        return flag(name, value)
    return name + ("" if value is None else f"={value}") + " in the recipe"


def on_failed_runs(study, details):
    """What to do about failed runs, a list of at most one sentence."""
    failed = len(details["failed_runs"])
    if not failed:
        return []
    return [
        f"{failed} run{'s' * (failed > 1)} failed. Against divergence a lower learning rate helps "
        f"({hyperparameter(study, 'learning_rate')}), on another workdir."
    ]
