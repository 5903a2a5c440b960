"""The paper's experiments on any image data set of tensorflow_datasets, named by flags.

    F=configs/tfds.py:figure=svag_baselines,norm=gn,size=small
    python -m trainers.sde_validity --config=$F --workdir=/tmp/fashion \
        --config.dataset.tfds_name=fashion_mnist \
        --config.dataset.mean=0.286, --config.dataset.std=0.353,

`mean` and `std` are one number per channel, for pixels in [0, 1] (the commas make tuples). Figures
and arguments are those of configs/cifar10.py; the recipe is that of CIFAR-10 without augmentation.
The data must be on this machine: `python -m keras_svag.datasets.prepare fashion_mnist` brings them
where there is a network.
"""

from keras_svag.config import experiments


def get_config(arguments=""):
    """Returns the config; `arguments` are those after the colon, separated by commas."""
    return experiments.get_config("tfds", arguments)
