"""Order of weak convergence of SVAG to its SDE: theorem 4.3 of Li, Malladi, Arora 2021.

    python -m trainers.weak_convergence --config=configs/weak_convergence.py --workdir=/tmp/weak

About five minutes on 2 cores. The theorem says order 1: errors halve when l doubles. Expected:
(i) on a linear problem, by exact moments: order 1.00;
(ii) on the same problem, simulated by the real train step: every l within 4 standard errors of its
exact recursion;
(iii) on a small network, against Euler-Maruyama with many more steps than the largest l: order
around 1 where the errors are resolved.

`--config=configs/weak_convergence.py:quick` is a test of about half a minute; its figures mean
nothing.
"""

import ml_collections
from ml_collections.config_dict import placeholder


def get_config(variant="default"):
    """Returns the config; `variant` is "default" or "quick"."""
    if variant not in ("default", "quick"):
        raise ValueError(
            "The argument after `configs/weak_convergence.py:` must be 'default' or 'quick'. "
            f"Received: {variant!r}"
        )
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = 64
    config.max_num_seeds = 64
    config.num_workers = 0  # processes; 0: one per core, 1: only this process
    # Seeds of a setting in one vmapped program on JAX; unset: on accelerators only.
    config.vectorize_seeds = placeholder(bool)
    config.epochs = 0.9  # 20 effective steps at batch size 64
    config.num_records = 4
    config.evaluation_size = 0
    config.num_checkpoints = 1
    config.checkpoint_steps = placeholder(int)  # or one every so many effective steps

    config.dataset = dict(name="digits", split_seed=0)
    config.sampling = "with_replacement"

    config.model = dict(
        name="mlp",
        depth=2,
        width=1,
        norm="group",
        affine=False,
        train_last_layer=False,
        epsilon=1e-5,
    )

    config.base_batch_size = 64
    config.learning_rate = 1.6
    config.weight_decay = 5e-3
    config.initial_scale = 1.0
    config.optimizer = dict(name="SVAG")
    config.schedule = dict(name="constant")
    config.closeness = 2.0**0.5
    config.equilibrium = (0.0, 1.0)

    config.weak_convergence = dict(
        # Example i has the loss a_i x^2 / 2 + b_i x; batches of one example, x = start at first.
        linear_a=(0.5, 1.5, 1.0, 2.0),
        linear_b=(1.0, -1.0, 0.5, 0.2),
        linear_learning_rate=0.5,
        linear_start=1.5,
        linear_horizon=8,  # effective steps
        linear_ells=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0),
        simulated_ells=(4.0, 8.0, 16.0, 32.0),
        num_chains=100_000,
        # The network: SVAG at these ells against Euler-Maruyama, extrapolated from these numbers of
        # steps per effective step.
        ells=(1.0, 2.0, 4.0, 8.0, 16.0),
        noise_steps=(64.0, 128.0),
    )

    if variant == "quick":
        config.num_seeds = config.max_num_seeds = 3
        config.num_workers = 1
        config.epochs = 0.2
        config.weak_convergence.update(
            simulated_ells=(2.0, 4.0), num_chains=2_000, ells=(1.0, 2.0), noise_steps=(4.0, 8.0)
        )
    return config
