"""CIFAR-10 experiments of Li, Malladi, Arora 2021 (arXiv 2102.12470), figures by name.

    F=configs/cifar10.py
    python -m trainers.sde_validity --config=$F:figure=svag_baselines,norm=gn --workdir=/tmp/svag
    python -m trainers.linear_scaling --config=$F:figure=linear_scaling,norm=gn --workdir=/tmp/lsr
    python -m trainers.noisy_gradient_descent --config=$F:figure=ngd --workdir=/tmp/ngd

Expected: "valid" at batch size 128; the linear scaling rule fails below the predicted bound; SGD
and Gaussian noise are "equivalent". Time: a week or more on one GPU. With `,size=medium`: 10
to 40 minutes on 2 CPU cores. docs/experiments.md has the command, cost and expected result of every
figure.

Arguments, all optional:
    figure: svag_convergence (default), svag_baselines, svag_architectures, svag_unnormalized,
        svag_triangle, svag_cosine, linear_scaling, ngd
    norm: bn, gn, ln, none
    batch_size, width: numbers
    model: preresnet32, resnet32, vgg16, vgg19, ...
    schedule: step, triangle, cosine
    warm_up: epochs
    size: paper (default), medium, tiny

Data: `python -m keras_svag.datasets.prepare cifar10` on a machine with a network.
"""

from keras_svag.config import experiments


def get_config(arguments=""):
    """Returns the config for the arguments after the colon of `--config`."""
    return experiments.get_config("cifar10", arguments)
