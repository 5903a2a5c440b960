r"""Adaptive optimizers (Malladi et al. 2022, arXiv 2205.10287): their SDE and how they scale.

    F=configs/adaptive.py
    python -m trainers.sde_validity --config=$F:figure=adam,size=medium --workdir=/tmp/adam
    python -m trainers.linear_scaling --config=$F:figure=rmsprop,size=medium --workdir=/tmp/scaling
    python -m trainers.sde_validity --config=$F:figure=adam,model=gpt,size=medium \
        --config.dataset.path=shakespeare.txt --workdir=/tmp/gpt

The scaling rule is the square root of Malladi et al.; `--config.optimizer.rule=linear` multiplies
the learning rate by kappa and changes nothing else.

Arguments, all optional:
    figure: adam (default), rmsprop (Adam with beta_1 = 0, as the authors have it)
    model: resnet56 (default), vgg16, preresnet8 (default of smaller sizes), all with batch norm;
        gpt, on the characters of the UTF-8 file `dataset.path`
    size: paper (default), medium, tiny

Data: as for configs/cifar10.py.
"""

from keras_svag.config import adaptive


def get_config(arguments=""):
    """Returns the config for the arguments after the colon of `--config`."""
    return adaptive.get_config(arguments)
