"""CIFAR-100 experiments of Li, Malladi, Arora 2021 (arXiv 2102.12470), figures by name.

    F=configs/cifar100.py
    python -m trainers.sde_validity --config=$F:figure=svag_baselines,norm=gn --workdir=/tmp/svag
    python -m trainers.linear_scaling --config=$F:figure=linear_scaling,norm=gn --workdir=/tmp/lsr
    python -m trainers.noisy_gradient_descent --config=$F:figure=ngd --workdir=/tmp/ngd

PreResNets are four times as wide as on CIFAR-10.

Arguments, times and expected results: see configs/cifar10.py.
Data: `python -m keras_svag.datasets.prepare cifar100` on a machine with a network.
"""

from keras_svag.config import experiments


def get_config(arguments=""):
    """Returns the config for the arguments after the colon of `--config`."""
    return experiments.get_config("cifar100", arguments)
