"""The experiments of the paper as configs: each figure of Li, Malladi, Arora 2021 by its name.

arXiv 2102.12470. Hyperparameters are those of the authors' published code. Sizes: `paper` as there,
`small` the same with less of everything (PreResNet-8 in place of PreResNet-32, 4,000 images, 1.5
epochs), for two CPU cores, `tiny` for tests.
"""

import dataclasses
import math

import ml_collections

from keras_svag._checks import one_of
from keras_svag.studies import LinearScaling, NoisyGradientDescent, SDEValidity

LINEAR_SCALING, SDE_VALIDITY = LinearScaling.name, SDEValidity.name
NOISY_GRADIENT_DESCENT = NoisyGradientDescent.name
NORMS = {"bn": "batch", "gn": "group", "ln": "layer", "none": "none"}
NETWORKS = {
    "preresnet8": ("preresnet", 8),
    "preresnet14": ("preresnet", 14),
    "preresnet32": ("preresnet", 32),
    "resnet8": ("resnet", 8),
    "resnet32": ("resnet", 32),
    "vgg11": ("vgg", 11),
    "vgg16": ("vgg", 16),
    "vgg19": ("vgg", 19),
}
# What stands for a network at a size below the paper's.
SMALLER = {
    "preresnet32": "preresnet8",
    "resnet32": "resnet8",
    "vgg16": "vgg11",
    "vgg19": "vgg11",
}
SCHEDULES = ("step", "triangle", "cosine")
PAPER, SMALL, TINY = "paper", "small", "tiny"
SIZES = (PAPER, SMALL, TINY)


@dataclasses.dataclass(frozen=True)
class Figure:
    """What a figure of the paper is made of, before any argument of the command.

    Attributes:
        study: the study that makes it.
        batch_size: B.
        model: name in `NETWORKS`.
        norm: name in `NORMS`.
        width: factor on the channel counts.
        schedule: name in `SCHEDULES`.
        ells: amplifications to compare with SGD.
        warm_up: epochs at the beginning with a hundredth of the learning rate.
    """

    study: str = SDE_VALIDITY
    batch_size: int = 128
    model: str = "preresnet32"
    norm: str = "bn"
    width: float = 1
    schedule: str = "step"
    ells: tuple = (1.0, 2.0, 4.0, 8.0, 16.0)
    warm_up: float = 0.0


FIGURES = {
    "svag_convergence": Figure(batch_size=64, ells=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0)),
    "svag_baselines": Figure(),
    "svag_architectures": Figure(width=4),
    "svag_unnormalized": Figure(model="vgg16", norm="none"),
    "svag_triangle": Figure(schedule="triangle"),
    "svag_cosine": Figure(schedule="cosine"),
    "linear_scaling": Figure(study=LINEAR_SCALING),
    "ngd": Figure(study=NOISY_GRADIENT_DESCENT, batch_size=500, norm="gn"),
}
# Those of the experiments, for which smaller ones stand at a smaller size.
PAPER_BATCH_SIZES = (64, 125, 128, 500, 1024)
# Arguments of a command that are numbers; all others are names.
NUMBERS = {"batch_size": int, "width": float, "warm_up": float}
ARGUMENTS = ("figure", "norm", "batch_size", "model", "width", "schedule", "warm_up", "size")


@dataclasses.dataclass(frozen=True)
class PaperRecipe:
    """How the authors train on a data set.

    Attributes:
        epochs: length of an SVAG experiment.
        decay_at: epochs at which the learning rate drops to a tenth.
        scaling_epochs: length of a linear-scaling experiment.
        scaling_decay_at: epochs at which its learning rate drops to a tenth.
        window: epochs of it over which N, G and R are averaged.
        width: width of the PreResNets.
        augment: whether images are cropped and flipped.
    """

    epochs: int = 160
    decay_at: tuple = (80, 120)
    scaling_epochs: int = 300
    scaling_decay_at: tuple = (250,)
    window: tuple = (200, 250)
    width: float = 1
    augment: bool = True


RECIPES = {
    "cifar10": PaperRecipe(),
    "cifar100": PaperRecipe(scaling_decay_at=(80, 250), width=4),
    "tfds": PaperRecipe(augment=False),
    "svhn": PaperRecipe(
        epochs=120,
        decay_at=(100,),
        scaling_epochs=120,
        scaling_decay_at=(100,),
        window=(80, 100),
        augment=False,
    ),
}


def parse_arguments(text):
    """Reads what stands after the colon of `--config=configs/cifar10.py:figure=ngd,norm=gn`.

    Args:
        text: string of `name=value`, separated by commas.

    Returns:
        A dict of the arguments that are given.

    Raises:
        ValueError: naming the argument, what was expected, and what was received.
    """
    arguments = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name not in ARGUMENTS:
            raise ValueError(
                "The argument after the config file must be a list such as "
                f"'figure=svag_convergence,norm=gn', of {', '.join(ARGUMENTS)}. Received: {part!r}"
            )
        try:
            arguments[name] = NUMBERS.get(name, str)(value)
        except ValueError:
            raise ValueError(f"`{name}` must be a number. Received: {name}={value!r}") from None
    return arguments


def get_config(dataset, text):
    """The config of an experiment.

    Args:
        dataset: `"cifar10"`, `"cifar100"`, `"svhn"`, or `"tfds"` for one that flags name.
        text: arguments as in `parse_arguments`; `figure` defaults to `svag_convergence`, `size` to
            `paper`, all others to what the figure has.

    Returns:
        A `ConfigDict` for the study of the figure.

    Raises:
        ValueError: as `parse_arguments` does.
    """
    arguments = parse_arguments(text)
    size = one_of("size", arguments.pop("size", PAPER), SIZES)
    name = one_of("figure", arguments.pop("figure", "svag_convergence"), FIGURES)
    recipe, figure = RECIPES[dataset], FIGURES[name]
    if "batch_size" in arguments and figure.study == LINEAR_SCALING:
        raise ValueError(
            "`batch_size` is not for figure=linear_scaling, which has many. "
            f"Received: batch_size={arguments['batch_size']}. Use --config.base_batch_size and "
            "--config.linear_scaling.batch_sizes."
        )
    is_preresnet = arguments.get("model", figure.model).startswith("preresnet")
    width = max(recipe.width, figure.width) if is_preresnet else 1
    figure = dataclasses.replace(figure, **{"width": width, **arguments})
    one_of("norm", figure.norm, NORMS)
    one_of("model", figure.model, NETWORKS)
    one_of("schedule", figure.schedule, SCHEDULES)
    config = _as_published(dataset, figure, recipe)
    if size != PAPER:
        _reduce(config, figure)
        if "batch_size" in arguments and arguments["batch_size"] not in PAPER_BATCH_SIZES:
            config[figure.study].batch_sizes = (figure.batch_size,)
    if size == TINY:
        _reduce_further(config, figure)
    return config


def _as_published(dataset, figure, recipe):
    model, depth = NETWORKS[figure.model]
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = 2  # the paper shows one run each; a verdict needs two
    config.max_num_seeds = 2
    config.num_workers = 0
    # seeds of a setting as one program of JAX: True, False, or None for accelerators only
    config.vectorize_seeds = ml_collections.config_dict.placeholder(bool)
    config.num_records = 160
    config.num_checkpoints = 160
    # or one every so many effective steps, at any time of a study
    config.checkpoint_steps = ml_collections.config_dict.placeholder(int)
    config.evaluation_size = 10_000
    config.sampling = "with_replacement"
    config.closeness = math.sqrt(2.0)

    config.dataset = ml_collections.ConfigDict()
    config.dataset.name = dataset
    config.dataset.data_dir = ml_collections.config_dict.placeholder(str)
    # Gaussian noise stands for the noise of a fixed set of examples.
    config.dataset.augment = recipe.augment and figure.study != NOISY_GRADIENT_DESCENT
    config.dataset.num_train = ml_collections.config_dict.placeholder(int)
    config.dataset.num_test = ml_collections.config_dict.placeholder(int)
    if dataset == "tfds":
        config.dataset.tfds_name = ml_collections.config_dict.placeholder(str)
        config.dataset.mean = ml_collections.config_dict.placeholder(tuple)
        config.dataset.std = ml_collections.config_dict.placeholder(tuple)

    config.model = ml_collections.ConfigDict()
    config.model.name = model
    config.model.depth = depth
    config.model.width = float(figure.width)
    config.model.norm = NORMS[figure.norm]
    # The ResNet is the one network that the authors left as it is.
    config.model.affine = config.model.train_last_layer = model == "resnet"
    config.model.epsilon = 1e-5  # the authors' code has 0; see keras_svag.models.normalization

    config.learning_rate = 0.01 if figure.norm == "none" else 0.8
    # The authors scale from 0.8 at 128, but have 0.8 at 64 too, and 3.2 at 500 (0.8 at 125).
    config.base_batch_size = 64 if figure.batch_size == 64 else 128
    if figure.study == NOISY_GRADIENT_DESCENT:
        config.base_batch_size = 125
    config.weight_decay = 5e-4
    config.initial_scale = 1.0
    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "SVAG"
    config.optimizer.momentum = ml_collections.config_dict.placeholder(float)

    scaling = figure.study == LINEAR_SCALING
    config.epochs = float(recipe.scaling_epochs if scaling else recipe.epochs)
    config.schedule = ml_collections.ConfigDict()
    config.schedule.name = figure.schedule
    config.schedule.warm_up = figure.warm_up / config.epochs
    config.schedule.warm_up_factor = 0.01
    if figure.schedule == "step":
        epochs = recipe.scaling_decay_at if scaling else recipe.decay_at
        config.schedule.decay_at = tuple(epoch / config.epochs for epoch in epochs)
        config.schedule.decay_factor = 0.1
    elif figure.schedule == "triangle":
        config.schedule.heights = (1.0, 0.5)
        config.schedule.alpha = 1.25e-4  # down to 1e-4
    else:
        config.schedule.alpha = 1.25e-4
    first_decay = recipe.decay_at[0] / recipe.epochs
    window = tuple(epoch / recipe.scaling_epochs for epoch in recipe.window)
    config.equilibrium = window if scaling else (0.6 * first_decay, first_decay)

    config[figure.study] = _grid(figure)
    config.train = ml_collections.ConfigDict()
    config.train.batch_size = figure.batch_size
    config.train.ell = 1.0
    return config


def _grid(figure):
    grid = ml_collections.ConfigDict()
    if figure.study == SDE_VALIDITY:
        grid.batch_sizes = (figure.batch_size,)
        grid.ells = figure.ells
    elif figure.study == LINEAR_SCALING:
        grid.batch_sizes = tuple(2**i for i in range(1, 12))
        grid.criterion = "closeness"
        grid.tolerance = 0.02
        grid.phase = "config"
    else:
        grid.batch_sizes = (figure.batch_size,)
        grid.margins = (0.05,)
        grid.noise_steps = (1.0,)
        grid.num_seeds = 2
    return grid


def _reduce(config, figure):
    """Less of everything, and R in equilibrium all the same."""
    smaller = SMALLER.get(figure.model, figure.model)
    config.model.name, config.model.depth = NETWORKS[smaller]
    if smaller == "vgg11":
        config.model.width = 0.25 * figure.width
    config.dataset.num_train = 4000
    config.dataset.num_test = 1000
    config.evaluation_size = 250
    config.epochs = 1.5
    config.num_records = 20
    config.num_checkpoints = 4
    config.base_batch_size = 16
    config.learning_rate = 0.005 if figure.norm == "none" else 0.1
    config.weight_decay = 5e-4
    if figure.norm != "none":
        # R starts near its equilibrium, to which there is no time to fall.
        config.weight_decay, config.initial_scale = 0.02, 0.2
    config.equilibrium = (0.5, 0.8)
    if figure.schedule == "step":
        config.schedule.decay_at = (0.8,)
    grid = config[figure.study]
    if figure.study == SDE_VALIDITY:
        grid.batch_sizes = (16 if figure.batch_size < 1024 else 128,)
        grid.ells = (1.0, 2.0, 4.0)
    elif figure.study == LINEAR_SCALING:
        grid.batch_sizes = (16, 32, 64, 128, 256)
    else:
        config.dataset.num_train = 500
        config.epochs = 5.0
        grid.batch_sizes = (32 if figure.batch_size > 125 else 8,)
    config.train.batch_size = 16


def _reduce_further(config, figure):
    """A few steps on a few images, for tests."""
    config.model.width = 0.5 if figure.model.startswith("vgg") else 1.0
    config.dataset.num_train = 64
    config.dataset.num_test = 32
    config.evaluation_size = 32
    config.epochs = 0.5
    config.num_workers = 1
    config.num_records = 10
    config.num_checkpoints = 1
    config.equilibrium = (0.0, 1.0)
    grid = config[figure.study]
    grid.batch_sizes = (8,) if figure.study != LINEAR_SCALING else (8, 16)
    config.base_batch_size = config.train.batch_size = 8
