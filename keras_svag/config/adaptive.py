"""Experiments with adaptive optimizers (Malladi et al. 2022, arXiv 2205.10287) as configs.

Size `paper` has the hyperparameters of the authors' published code on CIFAR-10; `medium` is for two
CPU cores, `tiny` for tests.
"""

from ml_collections.config_dict import placeholder

from keras_svag._checks import one_of
from keras_svag.config.experiments import PAPER, SIZES, TINY, common_config, parse_arguments
from keras_svag.config.reduced import let_seeds_grow, shrink_for_tests

# RMSprop of the authors is Adam without an average of the gradient: it corrects the bias of the
# average of squares, and adds epsilon outside the root, unlike that of Keras.
FIGURES = {"adam": {}, "rmsprop": {"beta_1": 0.0}}
GPT = "gpt"
NETWORKS = {
    "preresnet8": ("preresnet", 8),
    "resnet56": ("resnet", 56),
    "vgg16": ("vgg", 16),
    GPT: (GPT, 2),
}
ARGUMENTS = ("figure", "model", "size")
# Epochs after which the learning rate drops, of 500; in the authors' list also at the end.
DECAY_AT = {"adam": (300,), "rmsprop": (300, 400)}


def get_config(text):
    """Returns the `ConfigDict` of an experiment, for both studies."""
    arguments = parse_arguments(text, ARGUMENTS)
    size = one_of("size", arguments.get("size", PAPER), SIZES)
    figure = one_of("figure", arguments.get("figure", "adam"), FIGURES)
    default = "resnet56" if size == PAPER else "preresnet8"
    model = one_of("model", arguments.get("model", default), NETWORKS)
    config = _published_config(figure, model)
    if size != PAPER:
        _make_medium(config, figure, model)
    if size == TINY:
        _make_tiny(config, model)
    return config


def _published_config(figure, model):
    config = common_config(num_records=100)
    config.dataset = _dataset(model)
    name, depth = NETWORKS[model]
    # As in the authors' code: all is trained but the last layer of the VGG.
    of_images = dict(width=1.0, norm="batch", affine=True, train_last_layer=name != "vgg")
    options = dict(width=64, num_heads=4) if model == GPT else of_images
    config.model = dict(name=name, depth=depth, **options)
    config.base_batch_size = 256
    config.learning_rate = 1e-3
    config.weight_decay = 0.0
    config.l2 = 1e-4  # PyTorch's `weight_decay` of Adam: part of the gradient, and never scaled
    config.optimizer = dict(
        name="SVAGAdam",
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        rule=placeholder(str),
        exclude_from_weight_decay=placeholder(tuple),
    )
    config.optimizer.update(FIGURES[figure])
    config.epochs = 500.0
    config.schedule = dict(
        name="step",
        decay_at=tuple(epoch / 500 for epoch in DECAY_AT[figure]),
        decay_factor=0.1,
        warm_up=10 / 500,  # linear; that of the authors is exponential
        warm_up_factor=1e-3,
        warm_up_gradual=True,
    )
    config.equilibrium = (0.4, 0.6)
    # Amplifications sigma^2 of the authors' sigma = 1, 2, 4, 8.
    config.sde_validity = dict(
        batch_sizes=(256,), ells=(1.0, 4.0, 16.0, 64.0), max_ell=64.0, criteria=placeholder(object)
    )
    # The square-root rule at beta_1 = 0.9 ends below 10 times the batch size.
    config.linear_scaling = dict(
        batch_sizes=(256, 512, 1024, 2048),
        criterion="closeness",
        tolerance=0.03,
        test_error_ratio=1.2,
        phase="config",
    )
    config.train = dict(batch_size=256, ell=1.0)
    return config


def _dataset(model):
    dataset = {"num_train": placeholder(int), "num_test": placeholder(int)}
    if model == GPT:
        return dataset | {"name": "text", "path": placeholder(str), "length": 64}
    return dataset | {
        "name": "cifar10",
        "data_dir": placeholder(str),
        "augment": True,
        "image_size": placeholder(int),
    }


def _make_medium(config, figure, model):
    """For two CPU cores; how it was chosen: docs/results.md."""
    let_seeds_grow(config, 8, 16)
    config.num_records, config.num_checkpoints = 40, 10
    config.evaluation_size = 500
    # Where N/G is 5 or more.
    config.base_batch_size = config.train.batch_size = 8 if model == GPT else 32
    config.learning_rate = 3e-4 if model == GPT else 2e-3
    # Memories of 20 and 100 steps, and room to multiply 1 - beta_1 by 16.
    config.optimizer.update({"beta_1": 0.95, "beta_2": 0.99, **FIGURES[figure]})
    config.schedule.update(decay_at=(0.8,), warm_up=0.05)
    config.equilibrium = (0.4, 0.8)
    config.sde_validity.update(
        batch_sizes=(config.base_batch_size,),
        ells=(1.0, 2.0, 4.0, 8.0),
        max_ell=16.0,
        criteria={"train_loss": {"ratio": 1.1}},
    )
    config.linear_scaling.update(batch_sizes=tuple(config.base_batch_size * 2**i for i in range(5)))
    if model == GPT:
        config.evaluation_size = 200
        config.dataset.length = 32
        config.dataset.num_train = 20_000  # windows
        config.epochs = 0.8
    else:
        config.dataset.augment, config.dataset.image_size = False, 16
        config.epochs = 0.4


def _make_tiny(config, model):
    shrink_for_tests(config)
    config.linear_scaling.batch_sizes = (8, 16)
    if model == GPT:
        config.dataset.length, config.model.width = 16, 16
    elif model == "vgg16":
        config.dataset.image_size, config.model.width = None, 0.125
