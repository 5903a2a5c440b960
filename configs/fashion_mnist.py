"""The paper's experiments on Fashion-MNIST, which the paper does not have.

    F=configs/fashion_mnist.py:figure=svag_baselines,norm=gn,size=medium
    python -m trainers.sde_validity --config=$F --workdir=/tmp/fashion

Trains as on CIFAR-10, without augmentation; arguments and times are those of configs/cifar10.py.
Data: `python -m keras_svag.datasets.prepare fashion_mnist` on a machine with a network.
"""

from keras_svag.config import experiments


def get_config(arguments=""):
    """Returns the config for the arguments after the colon of `--config`."""
    return experiments.get_config("fashion_mnist", arguments)
