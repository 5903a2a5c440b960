"""The study of a config, on the config's own recipe or on a user's."""

from keras_svag._checks import positive_int, reject_unknown
from keras_svag.config.recipe import build_recipe
from keras_svag.config.validate import OPTIONAL, select_study, to_plain, validate_config
from keras_svag.studies import STUDIES
from keras_svag.studies.base.study import COMMON_FIELDS

# Fields in which a config may repeat its recipe: attributes of `Recipe.facts`.
RECIPE_FIELDS = {
    "base_batch_size": "batch_size",
    "epochs": "epochs",
    "learning_rate": "learning_rate",
    "sampling": "sampling",
    "weight_decay": "weight_decay",
}


def build_study(config, name, recipe=None):
    """Returns the `Study` of a config and the number of worker processes."""
    if recipe is None:
        config = validate_config(config, name)
        study = _make_study(config, name, build_recipe(config))
        # As normalized by the study: sorted, as numbers.
        study.config[name] = {field: getattr(study, field) for field in study.own_fields}
        return study, config["num_workers"]
    config = OPTIONAL | to_plain(config)
    _check_consistency(config, recipe)
    config = select_study(config, name)
    num_workers = positive_int("num_workers", config.pop("num_workers", 0), minimum=0)
    return _make_study(config, name, recipe, keep_config=False), num_workers


def _make_study(config, name, recipe, keep_config=True):
    fields = {field: config.get(entry) for entry, field in COMMON_FIELDS.items()}
    fields |= config.get(name) or {}
    # Unset fields take the default of the study.
    fields = {field: value for field, value in fields.items() if value is not None}
    return STUDIES[name](recipe, **fields, config=dict(config) if keep_config else None)


def _check_consistency(config, recipe):
    """Raises if a config contradicts the recipe or has fields that the recipe determines."""
    for entry, attribute in RECIPE_FIELDS.items():
        value = config.get(entry)
        if value is not None and value != (expected := getattr(recipe.facts, attribute)):
            raise ValueError(
                f"`{entry}` must be that of the recipe, {expected!r}, or unset. "
                f"Received: {entry}={value!r}. Change the recipe or the config."
            )
    for entry in ("dataset", "model", "optimizer", "schedule", "initial_scale", "l2"):
        if config.get(entry) is not None:
            raise ValueError(
                f"`{entry}` must be unset in a config for a recipe, which determines it. "
                f"Received: {entry}={config[entry]!r}. Use --recipe without --config, or with "
                "--config=configs/recipe.py."
            )
    reject_unknown("", config, [*COMMON_FIELDS, *RECIPE_FIELDS, *STUDIES, "num_workers"])
