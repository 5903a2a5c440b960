"""The recipe of a config."""

import functools

import keras

from keras_svag.config.optimizer import build_optimizer
from keras_svag.config.schedule import build_schedule
from keras_svag.datasets import DATASETS
from keras_svag.models import MODELS
from keras_svag.recipe import Recipe
from keras_svag.recipe.facts import effective_steps


def build_recipe(config):
    """Returns the `Recipe` of a validated config: a named network on a named data set."""
    options = {name: value for name, value in config["dataset"].items() if name != "name"}
    dataset = DATASETS[config["dataset"]["name"]](**options)
    optimizer, rule = build_optimizer(config)
    network = (config["model"], dataset.input_shape, dataset.num_classes, config["initial_scale"])
    coupled = {"l2": config["l2"]} if config.get("l2") else {}
    recipe = Recipe(
        model=functools.partial(build_network, *network, **coupled),
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


def build_network(fields, input_shape, num_classes, initial_scale, seed, l2=0.0):
    """Returns a network of logits with the initial weights of `seed` times `initial_scale`."""
    options = {name: value for name, value in fields.items() if name != "name"}
    network = MODELS[fields["name"]](input_shape, num_classes, seed=seed, **options)
    if initial_scale != 1:
        # Where the loss is scale invariant this sets the initial R, hence the effective learning
        # rate, and nothing else.
        for variable in network.trainable_variables:
            variable.assign(variable * initial_scale)
    if l2:
        # PyTorch's `weight_decay` of Adam: l2 times the weights is part of the gradient.
        for variable in network.trainable_variables:
            variable.regularizer = keras.regularizers.L2(l2 / 2)
    return network
