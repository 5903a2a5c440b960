"""The experiments of the paper at sizes for two CPU cores and for tests."""

from keras_svag.studies import LinearScaling, SDEValidity

# Depths of the networks below the paper's size.
SMALLEST = {"preresnet": 8, "resnet": 8, "vgg": 11}
# Examples of a run of size `medium`: 4,000 steps of 4.
MEDIUM_EXAMPLES = 16_000
# Of `tfds` that of Fashion-MNIST: runs on other data sets are longer or shorter in proportion.
MEDIUM_NUM_TRAIN = {"cifar10": 50_000, "cifar100": 50_000, "svhn": 73_257, "tfds": 60_000}


def make_medium(config, figure):
    """Ten to 40 minutes on two CPU cores; how it was chosen: docs/results.md."""
    config.model.depth = SMALLEST[config.model.name]
    if config.model.name == "vgg":
        config.model.width = 0.25 * figure.width
    elif config.dataset.name != "tfds":  # a VGG needs 32x32
        config.dataset.image_size = 16
    elif config.dataset.tfds_name:
        config.dataset.image_size = 14  # Fashion-MNIST has 28
    config.dataset.augment = False
    # With weights so small, epsilon would count: the loss would not be scale invariant.
    config.model.epsilon = 1e-7
    config.evaluation_size = 500
    let_seeds_grow(config, 8, 24)
    config.num_records, config.num_checkpoints = 40, 10
    # N/G is 5 or more at the small batch, 0.3 or less at the large one. Noise is larger with batch
    # norm.
    small, large = (16, 512) if figure.norm == "bn" else (4, 256)
    config.base_batch_size = config.train.batch_size = small
    config.learning_rate = (0.000625 if figure.norm == "none" else 0.00625) * small
    if figure.norm != "none" and not config.model.affine:
        # R, N and G follow changes within 1/(4 eta lambda) steps, a twelfth of a run, and R starts
        # near its equilibrium.
        config.weight_decay, config.initial_scale = 0.03, 0.12
    config.epochs = MEDIUM_EXAMPLES / MEDIUM_NUM_TRAIN[config.dataset.name]
    config.equilibrium = (0.4, 0.8)
    if figure.schedule == "step":
        config.schedule.decay_at = (0.8,)
    grid = config[figure.study]
    if figure.study == SDEValidity.name:
        grid.batch_sizes = (small if figure.batch_size < 1024 else large,)
        grid.ells, grid.max_ell = (1.0, 2.0, 4.0, 8.0), 16.0
    elif figure.study == LinearScaling.name:
        grid.batch_sizes = tuple(small * 2**i for i in range(6))
        config.num_seeds = 12
        grid.phase = "auto"
    else:
        # Each step of the Gaussian noise reads all images.
        config.dataset.num_train, config.epochs = 1000, 16.0
        grid.batch_sizes = (64 if figure.batch_size > 125 else 16,)
        # Losses of SGD and NGD at the end differ by some 7 % from seed to seed.
        grid.num_seeds, grid.margins = 16, (0.1,)


def make_tiny(config, figure):
    """Seconds long; the results mean nothing."""
    shrink_for_tests(config)
    config.model.width = 0.5 if figure.model.startswith("vgg") else 1.0
    config.dataset.image_size = None
    grid = config[figure.study]
    grid.batch_sizes = (8,) if figure.study != LinearScaling.name else (8, 16)
    config.base_batch_size = config.train.batch_size = 8


def let_seeds_grow(config, num_seeds, max_num_seeds):
    """Sets the seeds at first and at most, which are one number in the published configs."""
    del config.max_num_seeds  # a reference to `num_seeds`
    config.num_seeds, config.max_num_seeds = num_seeds, max_num_seeds


def shrink_for_tests(config):
    """Cuts data, seeds and runs to what takes seconds, whatever is trained."""
    config.dataset.num_train, config.dataset.num_test = 64, 32
    config.evaluation_size = 32
    config.num_seeds = config.max_num_seeds = 2
    config.num_workers = 1
    config.epochs = 0.5
    config.num_records, config.num_checkpoints = 10, 1
    config.equilibrium = (0.0, 1.0)
