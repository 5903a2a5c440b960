"""Trains one network with SVAG (or SGD, its ell = 1): evaluation, checkpoints, TensorBoard.

    python -m trainers.train --config=configs/digits.py --workdir=/tmp/train
    tensorboard --logdir=/tmp/train

The same command on the same workdir goes on where it was interrupted. Any field of the config may
be set, as in `--config.train.ell=4 --config.optimizer.name=SVAGAdam --config.learning_rate=0.001`.
"""

import sys

from . import flags


def study(config, workdir):
    """Trains the network and prints how it ended.

    Args:
        config: a `ConfigDict` such as `configs/digits.py` gives.
        workdir: folder for everything that the run leaves.
    """
    from keras_svag.config import build_study
    from keras_svag.studies.training import format_result

    flags.refuse_parts()
    training, _ = build_study(config, "train", flags.load_recipe())
    result = training.run(workdir)
    print(format_result(result))
    print(f"\nRecords: tensorboard --logdir={workdir}")
    if result["status"] == "failed":
        sys.exit(1)


def main():
    """Entry point of the console script."""
    flags.run(study, parallel=False)


if __name__ == "__main__":
    main()
