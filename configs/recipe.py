"""Fields of the studies, for a recipe: your own model and data.

    python -m trainers.sde_validity --recipe=my_file.py:make_recipe --workdir=/tmp/mine
    python -m trainers.linear_scaling --recipe=my_file.py:make_recipe --workdir=/tmp/scaling
    python -m trainers.branched_batch_size --recipe=my_file.py:make_recipe --workdir=/tmp/branches

`make_recipe` returns a `keras_svag.Recipe`, which determines model, data, optimizer, batch size and
epochs. This is the default config of `--recipe`; flags such as
`--config.sde_validity.batch_sizes=8,64` set its fields. Unset batch sizes follow from the recipe:
its own (SDE validity), or 1/2 to 64 times that (linear scaling).
"""

import math

import ml_collections
from ml_collections.config_dict import placeholder


def get_config():
    """Returns the config."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_seeds = 4
    config.max_num_seeds = placeholder(int)  # unset: four times num_seeds
    config.num_workers = 0  # processes; 0: one per core, 1: only this process
    # Seeds of a setting in one vmapped program on JAX; unset: on accelerators only.
    config.vectorize_seeds = placeholder(bool)
    config.num_records = 60  # rows of metrics.jsonl
    config.num_checkpoints = 10  # per run, at the same effective steps for every ell
    config.checkpoint_steps = placeholder(int)  # or one every so many effective steps
    config.evaluation_size = 0  # first examples of each split to evaluate on; 0: all
    config.closeness = math.sqrt(2.0)
    config.equilibrium = (0.4, 0.8)  # fractions of the run over which N, G and R are averaged

    config.sde_validity = dict(
        batch_sizes=placeholder(tuple),
        ells=(1.0, 2.0, 4.0, 8.0),
        max_ell=placeholder(float),  # see configs/digits.py
        criteria=placeholder(object),
        noise="covariance",  # of SGD, or its second_moment
    )
    config.linear_scaling = dict(
        batch_sizes=placeholder(tuple),
        criterion="closeness",  # or weight_norm, test_accuracy, test_error_ratio
        tolerance=0.02,  # of test accuracy
        test_error_ratio=1.2,
        phase="auto",  # or config: average over `equilibrium`
    )
    config.branched_batch_size = dict(
        factors=placeholder(tuple),  # on the batch size; unset: 2 to 32
        branch_at=0.5,  # see configs/digits.py
        num_examples=placeholder(int),
        recovery=0.5,
        tolerance=0.1,
    )
    config.noisy_gradient_descent = dict(
        batch_sizes=placeholder(tuple),
        margins=(0.05,),
        noise_steps=(1.0,),
        criteria=placeholder(object),
        second_moment=False,  # another method for each of noise_steps above 1
        num_seeds=48,
    )
    config.weak_convergence = dict(ells=(1.0, 2.0, 4.0, 8.0))
    config.train = dict(batch_size=placeholder(int), ell=1.0)
    return config
