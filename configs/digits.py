"""All studies on scikit-learn's digits (1,797 real 8x8 images), small enough for a laptop.

Is SGD well modeled by its SDE? 32 runs, half a minute on 2 cores. Expected: "valid" at batch size
8, "invalid" at 256.

    python -m trainers.sde_validity --config=configs/digits.py --workdir=/tmp/digits

Does the shape of the gradient noise matter, or its covariance alone? SGD against Gaussian noise at
batch size 256, 12 seeds, about two minutes. Expected: "equivalent".

    python -m trainers.noisy_gradient_descent --config=configs/digits.py --workdir=/tmp/ngd

How far does the linear scaling rule hold? Batch sizes 4 to 512 against 8, 32 runs, one to three
minutes. Expected: it fails below the tight bound predicted at batch size 8, about kappa = 9.

    python -m trainers.linear_scaling --config=configs/digits.py --workdir=/tmp/scaling

From the middle of a run, up to which batch size does training go on as before? Branches at 2 to 32
times batch size 8, 28 runs, about a minute.

    python -m trainers.branched_batch_size --config=configs/digits.py --workdir=/tmp/branches

One run, not a study:

    python -m trainers.train --config=configs/digits.py --workdir=/tmp/train --config.train.ell=2

`--config=configs/digits.py:quick` is a test of about 20 seconds; its verdicts mean nothing.
"""

import math

import ml_collections
from ml_collections.config_dict import placeholder


def get_config(variant="default"):
    """Returns the config; `variant` is "default" or "quick"."""
    if variant not in ("default", "quick"):
        raise ValueError(
            "The argument after `configs/digits.py:` must be 'default' or 'quick'. "
            f"Received: {variant!r}"
        )
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = 4
    config.max_num_seeds = 16  # doubled up to here while a verdict is inconclusive
    config.num_workers = 0  # processes; 0: one per core, 1: only this process
    # Seeds of a setting in one vmapped program on JAX; unset: on accelerators only.
    config.vectorize_seeds = placeholder(bool)
    config.epochs = 30.0  # of the SGD run: epochs * n / B effective steps
    config.num_records = 60  # rows of metrics.jsonl
    config.evaluation_size = 0  # first examples of each split to evaluate on; 0: all
    config.num_checkpoints = 10  # per run, at the same effective steps for every ell
    config.checkpoint_steps = placeholder(int)  # every so many effective steps instead

    config.dataset = dict(name="digits", split_seed=0)
    # or without_replacement, shuffled_epochs, fixed_order
    config.sampling = "with_replacement"

    # Scale invariant: group norm without scale and offset, last layer fixed.
    config.model = dict(
        name="mlp",
        depth=1,  # with 2, G at batch size 8 lies too close to the limit for a verdict
        width=1,
        norm="group",
        affine=False,
        train_last_layer=False,
        epsilon=1e-5,
    )

    # For SGD at base_batch_size; other batch sizes are scaled by the rule of the optimizer.
    config.base_batch_size = 8
    config.learning_rate = 0.2
    config.weight_decay = 5e-3
    config.initial_scale = 1.0  # factor on the trained initial weights
    config.optimizer = dict(name="SVAG")  # or SVAGAdam, SVAGAdamW, SVAGRMSprop
    for name in ("momentum", "beta_1", "beta_2", "rho", "epsilon"):  # unset: Keras' default
        config.optimizer[name] = placeholder(float)
    # linear, heavy_ball or square_root; unset: the one that preserves the SDE.
    config.optimizer.rule = placeholder(str)
    config.schedule = dict(
        name="step",  # or another function of keras_svag/schedules.py
        decay_at=(0.8,),  # fractions of the run
        decay_factor=0.1,
        alpha=placeholder(float),  # cosine, triangle
        heights=(1.0, 0.5),  # triangle
        warm_up=placeholder(float),
        warm_up_factor=placeholder(float),
    )

    config.closeness = math.sqrt(2.0)
    config.equilibrium = (0.4, 0.8)  # fractions of the run over which N, G and R are averaged

    config.sde_validity = dict(
        batch_sizes=(8, 256),
        ells=(1.0, 2.0, 4.0, 8.0),
        # Doubled up to here while the limit is not known well enough; unset: twice the largest ell.
        max_ell=placeholder(float),
        # What must agree besides R, N and G: "{'final_test_accuracy': {'difference': 0.02}}".
        criteria=placeholder(object),
        noise="covariance",  # of SGD, or its second_moment
    )
    config.noisy_gradient_descent = dict(
        batch_sizes=(256,),
        margins=(0.05,),  # of equivalence, for each batch size
        noise_steps=(1.0, 8.0),
        criteria=placeholder(object),
        second_moment=False,  # another method for each of noise_steps above 1
        num_seeds=12,
    )
    config.linear_scaling = dict(
        batch_sizes=(4, 8, 16, 32, 64, 128, 256, 512),
        # closeness: R, B N and G within the factor `closeness`; weight_norm: R alone;
        # test_accuracy: lower by at most `tolerance`; test_error_ratio: test error at most so many
        # times as high.
        criterion="closeness",
        tolerance=0.02,
        test_error_ratio=1.2,
        # auto: averages start where drift ends, if it does; config: they are over `equilibrium`.
        phase="auto",
    )
    config.branched_batch_size = dict(
        factors=placeholder(tuple),  # on the batch size; unset: 2 to 32, as far as the rule goes
        branch_at=0.5,  # a fraction of the run
        num_examples=placeholder(int),  # of each branch; unset: a fifth of those of the run
        recovery=0.5,  # part of a branch that is left out of its loss
        tolerance=0.1,  # largest relative excess of the loss
    )
    config.train = dict(batch_size=8, ell=1.0)

    if variant == "quick":
        config.num_seeds = config.max_num_seeds = 2
        config.num_workers = 1
        config.epochs = 2.0
        config.num_records = 10
        config.num_checkpoints = 2
        config.sde_validity.batch_sizes = (32, 128)
        config.sde_validity.max_ell = 8.0
        config.linear_scaling.batch_sizes = (4, 64)
        config.branched_batch_size.factors = (4.0, 16.0)
        config.noisy_gradient_descent.update(
            batch_sizes=(128,), noise_steps=(1.0, 2.0), num_seeds=2
        )
        config.train.batch_size = 128
    return config
