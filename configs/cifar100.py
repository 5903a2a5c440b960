"""CIFAR-100 experiments of Li, Malladi, Arora 2021 (arXiv 2102.12470), each figure by name.

    F=configs/cifar100.py
    python -m trainers.sde_validity --config=$F:figure=svag_baselines,norm=gn --workdir=/tmp/svag
    python -m trainers.linear_scaling --config=$F:figure=linear_scaling,norm=gn --workdir=/tmp/lsr
    python -m trainers.noisy_gradient_descent --config=$F:figure=ngd --workdir=/tmp/ngd

PreResNets are four times as wide as on CIFAR-10. Expect SVAG at all l to follow SGD at batch size
128 ("valid"), and the linear scaling rule to end below the bound that the base run predicts.

These are the paper's own sizes: a week of one GPU each, and more. `size=small` after another comma
is the same with less of everything, minutes to half an hour on two CPU cores.
docs/experiments.md lists the command of every figure with its cost and what to expect.

Arguments after the colon, all optional: figure (svag_convergence, svag_baselines,
svag_architectures, svag_unnormalized, svag_triangle, svag_cosine, linear_scaling, ngd), norm (bn,
gn, ln, none), batch_size, model (preresnet32, resnet32, vgg16, vgg19, ...), width, schedule (step,
triangle, cosine), warm_up (epochs), size (paper, small, tiny).

The data must be on this machine: where there is a network, `python -m keras_svag.datasets.prepare
cifar100` brings them.
"""

from keras_svag.config import experiments


def get_config(arguments=""):
    """Returns the config; `arguments` are those after the colon, separated by commas."""
    return experiments.get_config("cifar100", arguments)
