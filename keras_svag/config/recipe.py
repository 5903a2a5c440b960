"""The recipe that a config writes down."""

import functools

import keras

from keras_svag.config.optimizer import build_optimizer
from keras_svag.config.schedule import build_schedule
from keras_svag.datasets import DATASETS
from keras_svag.models import MODELS
from keras_svag.recipe import Recipe
from keras_svag.recipe.facts import effective_steps


def build_recipe(config):
    """The recipe of a config: a named network on a named data set.

    Args:
        config: a validated config.

    Returns:
        A `Recipe`.
    """
    options = {name: value for name, value in config["dataset"].items() if name != "name"}
    dataset = DATASETS[config["dataset"]["name"]](**options)
    optimizer, rule = build_optimizer(config)
    network = (config["model"], dataset.input_shape, dataset.num_classes, config["initial_scale"])
    recipe = Recipe(
        model=functools.partial(build_network, *network),
        train_data=(dataset.train_x, dataset.train_y),
        test_data=(dataset.test_x, dataset.test_y),
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        batch_size=config["base_batch_size"],
        epochs=config["epochs"],
        augment=dataset.augmentation,
        preprocess=dataset.normalization,
        sampling=config["sampling"],
        rule=rule,
    )
    total = effective_steps(recipe.epochs, recipe.num_train, recipe.batch_size)
    recipe.schedule = functools.partial(build_schedule, config["schedule"], base_total=total)
    recipe.data_name = dataset.name
    return recipe


def build_network(fields, input_shape, num_classes, initial_scale, seed):
    """A network of `keras_svag.models` with the initial weights of a seed.

    Trained weights are multiplied by `initial_scale`. Where the loss is scale invariant that is a
    choice of where R starts, and so of the effective learning rate, and of nothing else.

    Args:
        fields: the `model` part of a config.
        input_shape: shape of one example.
        num_classes: number of classes.
        initial_scale: number > 0.
        seed: int.

    Returns:
        A `keras.Model` of logits.
    """
    options = {name: value for name, value in fields.items() if name != "name"}
    network = MODELS[fields["name"]](input_shape, num_classes, seed=seed, **options)
    if initial_scale != 1:
        for variable in network.trainable_variables:
            variable.assign(variable * initial_scale)
    return network
