r"""The paper's experiments on any image data set of tensorflow_datasets.

    F=configs/tfds.py:figure=svag_baselines,norm=gn,size=medium
    python -m trainers.sde_validity --config=$F --workdir=/tmp/fashion \
        --config.dataset.tfds_name=fashion_mnist \
        --config.dataset.mean=0.286, --config.dataset.std=0.353,

Trains as on CIFAR-10, without augmentation; arguments and times are those of configs/cifar10.py.
`mean` and `std` have one number per channel, for pixels in [0, 1] (the commas make tuples). Data:
`python -m keras_svag.datasets.prepare fashion_mnist` on a machine with a network.
"""

from keras_svag.config import experiments


def get_config(arguments=""):
    """Returns the config for the arguments after the colon of `--config`."""
    return experiments.get_config("tfds", arguments)
