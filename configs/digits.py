"""Default studies on scikit-learn's digits (1,797 real 8x8 images): small enough for a laptop.

    python -m trainers.sde_validity --config=configs/digits.py --workdir=/tmp/digits

Is SGD well modelled by its SDE? 32 runs (batch sizes 8 and 256, ell = 1, 2, 4, 8, four seeds),
about two minutes on 2 cores. Expect "valid" at batch size 8 and "invalid" at batch size 256.

    python -m trainers.noisy_gradient_descent --config=configs/digits.py --workdir=/tmp/ngd

Is the shape of the noise needed? SGD at batch size 256 against Gaussian noise of its covariance,
and SVAG(8), eight Gaussian steps and SGD at batch size 32 against each other; 48 seeds, some ten
minutes.

    python -m trainers.linear_scaling --config=configs/digits.py --workdir=/tmp/scaling

How far does the linear scaling rule hold? Batch sizes 4 to 512 with the learning rate in
proportion, against batch size 8, whose runs predict the largest factor before any other begins; 32
runs, one to three minutes. Expect the rule to end below the tight bound, which is about 9.

One run, for people who want a trainer and not a study:

    python -m trainers.train --config=configs/digits.py --workdir=/tmp/train --config.train.ell=2

The network is scale invariant in what it trains (group norm without scale and offset, last layer
fixed), SGD has no momentum, weight decay 5e-3; learning rate 0.2 at batch size 8 and in proportion
elsewhere, times 0.1 after 80 % of the run. N, G and R are averaged over 40 % to 80 %.

Argument `quick` (`--config=configs/digits.py:quick`): a run of some 20 seconds, for tests; its
verdicts mean nothing.
"""

import math

import ml_collections


def get_config(variant="default"):
    """Returns the config; `variant` is `"default"` or `"quick"`."""
    if variant not in ("default", "quick"):
        raise ValueError(
            "The argument after `configs/digits.py:` must be 'default' or 'quick'. "
            f"Received: {variant!r}"
        )
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = 4
    config.max_num_seeds = 16  # seeds are doubled up to here while a verdict is inconclusive
    config.num_workers = 0  # processes; 0 means one for each core, 1 this process alone
    # seeds of a setting as one program of JAX: True, False, or None for accelerators only
    config.vectorize_seeds = ml_collections.config_dict.placeholder(bool)
    config.epochs = 30.0  # of the SGD run: epochs * n / B effective steps
    config.num_records = 60  # rows of metrics.jsonl
    config.evaluation_size = 0  # first examples of each split to evaluate on; 0 means all
    config.num_checkpoints = 10  # per run, at the same effective steps for every ell
    # or one every so many effective steps, at any time of a study
    config.checkpoint_steps = ml_collections.config_dict.placeholder(int)

    config.dataset = ml_collections.ConfigDict()
    config.dataset.name = "digits"
    config.dataset.split_seed = 0
    # with_replacement, without_replacement, shuffled_epochs or fixed_order
    config.sampling = "with_replacement"

    config.model = ml_collections.ConfigDict()
    config.model.name = "mlp"
    config.model.depth = 2
    config.model.width = 1
    config.model.norm = "group"
    config.model.affine = False
    config.model.train_last_layer = False
    config.model.epsilon = 1e-5

    # Of the SGD run at base_batch_size; the studies keep learning_rate / batch_size fixed.
    config.base_batch_size = 8
    config.learning_rate = 0.2
    config.weight_decay = 5e-3
    # SVAG, SVAGAdam, SVAGAdamW or SVAGRMSprop, hyperparameters at base_batch_size
    config.initial_scale = 1.0  # factor on the trained initial weights
    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.name = "SVAG"
    for name in ("momentum", "beta_1", "beta_2", "rho", "epsilon"):  # unset: Keras' default
        config.optimizer[name] = ml_collections.config_dict.placeholder(float)
    # linear, heavy_ball or square_root; unset: the one that keeps the SDE of the optimizer
    config.optimizer.rule = ml_collections.config_dict.placeholder(str)
    # constant, step, cosine, triangle or keras; see keras_svag/schedules.py
    config.schedule = ml_collections.ConfigDict()
    config.schedule.name = "step"
    config.schedule.decay_at = (0.8,)  # fractions of the run
    config.schedule.decay_factor = 0.1
    config.schedule.alpha = ml_collections.config_dict.placeholder(float)  # cosine, triangle
    config.schedule.heights = (1.0, 0.5)  # triangle
    for name in ("warm_up", "warm_up_factor"):
        config.schedule[name] = ml_collections.config_dict.placeholder(float)

    config.closeness = math.sqrt(2.0)
    config.equilibrium = (0.4, 0.8)  # fractions of the run over which N, G and R are averaged

    config.sde_validity = ml_collections.ConfigDict()
    config.sde_validity.batch_sizes = (8, 256)
    config.sde_validity.ells = (1.0, 2.0, 4.0, 8.0)

    # Is the shape of the noise needed? SGD against Gaussian noise of its covariance.
    config.noisy_gradient_descent = ml_collections.ConfigDict()
    config.noisy_gradient_descent.batch_sizes = (256,)
    config.noisy_gradient_descent.margins = (0.05,)  # what counts as equal, for each batch size
    config.noisy_gradient_descent.noise_steps = (1.0, 8.0)
    config.noisy_gradient_descent.num_seeds = 48

    # How far does the linear scaling rule hold? Against the runs at base_batch_size.
    config.linear_scaling = ml_collections.ConfigDict()
    config.linear_scaling.batch_sizes = (4, 8, 16, 32, 64, 128, 256, 512)
    # "closeness": R, B N and G within the factor `closeness`; "weight_norm": R alone;
    # "test_accuracy": lower by no more than `tolerance`
    config.linear_scaling.criterion = "closeness"
    config.linear_scaling.tolerance = 0.02
    # "auto": averages start where drift ends, else (or with "config") at `equilibrium` above
    config.linear_scaling.phase = "auto"

    # One run.
    config.train = ml_collections.ConfigDict()
    config.train.batch_size = 8
    config.train.ell = 1.0

    if variant == "quick":
        config.num_seeds = 2
        config.max_num_seeds = 2
        config.num_workers = 1
        config.epochs = 2.0
        config.num_records = 10
        config.num_checkpoints = 2
        config.sde_validity.batch_sizes = (32, 128)
        config.sde_validity.ells = (1.0, 2.0, 4.0)
        config.linear_scaling.batch_sizes = (4, 64)
        config.noisy_gradient_descent.batch_sizes = (128,)
        config.noisy_gradient_descent.noise_steps = (1.0, 2.0)
        config.noisy_gradient_descent.num_seeds = 2
        config.train.batch_size = 128
    return config
