"""The study that a config writes down, of a recipe of its own or of one's own."""

from keras_svag._checks import positive_int, reject_unknown
from keras_svag.config.recipe import build_recipe
from keras_svag.config.validate import (
    OPTIONAL,
    STUDIES,
    select_study,
    to_plain,
    validate_config,
)
from keras_svag.studies.base.study import COMMON_FIELDS

# Fields of a recipe that a config may repeat.
REPEATED = {
    "base_batch_size": "batch_size",
    "epochs": "epochs",
    "learning_rate": "learning_rate",
    "sampling": "sampling",
    "weight_decay": "weight_decay",
}


def build_study(config, name, recipe=None):
    """The study of a config.

    Args:
        config: nested dict or `ConfigDict`, such as `configs/digits.py` gives; with a recipe, such
            as `configs/recipe.py` gives.
        name: name of the study.
        recipe: a `Recipe` of one's own, or `None` for that of the config. Defaults to `None`.

    Returns:
        A tuple of a `Study` and the number of worker processes.

    Raises:
        ValueError: naming the field that is wrong, or that contradicts the recipe.
    """
    if recipe is None:
        config = validate_config(config, name)
        study = _of_fields(config, name, build_recipe(config))
        # What the study made of its fields: sorted, as numbers.
        own = {field: getattr(study, field) for field in study.own_fields}
        study.config.update({name: own})
        return study, config["num_workers"]
    config = OPTIONAL | to_plain(config)
    _check_against(config, recipe)
    config = select_study(config, name)
    num_workers = positive_int("num_workers", config.pop("num_workers", 0), minimum=0)
    return _of_fields(config, name, recipe, keep=False), num_workers


def _of_fields(config, name, recipe, keep=True):
    fields = {field: config.get(entry) for entry, field in COMMON_FIELDS.items()}
    fields |= config.get(name) or {}
    # What is left open is the study's default.
    fields = {field: value for field, value in fields.items() if value is not None}
    return STUDIES[name](recipe, **fields, config=dict(config) if keep else None)


def _check_against(config, recipe):
    """Raises where a config says something else than the recipe, or something that it decides."""
    facts = None
    for entry, attribute in REPEATED.items():
        if config.get(entry) is not None:
            facts = facts or recipe.facts
            value, expected = config[entry], getattr(facts, attribute)
            if value != expected:
                raise ValueError(
                    f"`{entry}` must be that of the recipe, {expected!r}, or left out. "
                    f"Received: {entry}={value!r}. Change the recipe, or the config."
                )
    for entry in ("dataset", "model", "optimizer", "schedule", "initial_scale"):
        if config.get(entry) is not None:
            raise ValueError(
                f"`{entry}` must be left out of a config that is used with a recipe, which decides "
                f"it. Received: {entry}={config[entry]!r}. Use --recipe without --config, or with "
                "--config=configs/recipe.py."
            )
    known = [*COMMON_FIELDS, *REPEATED, *STUDIES, "num_workers"]
    reject_unknown("", config, known)
