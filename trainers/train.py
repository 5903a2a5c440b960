"""Trains one network with SVAG, which is SGD at ell = 1.

    python -m trainers.train --config=configs/digits.py --workdir=/tmp/train
    tensorboard --logdir=/tmp/train

The same command on the same workdir resumes an interrupted run. Flags set any field of the config:
`--config.train.ell=4 --config.optimizer.name=SVAGAdam --config.learning_rate=0.001`.
"""

import sys

from . import startup


def study(config, workdir):
    """Trains the network of a config and prints the result."""
    from keras_svag.config import build_study
    from keras_svag.engine.files import storage
    from keras_svag.engine.files.tensorboard import HAS_TENSORBOARD
    from keras_svag.studies.training import format_result

    from . import estimate, flags

    flags.check_no_shard()
    training, _ = build_study(config, "train", flags.load_recipe())
    if estimate.is_asked():
        estimate.print_estimate(training, can_share=True)
        return
    result = training.run(workdir)
    print(format_result(result))
    folder = storage.to_path(workdir)
    print(f"\nRecords: {'tensorboard --logdir=' if HAS_TENSORBOARD else ''}{folder}")
    if result["status"] == "failed":
        sys.exit(1)


def main():
    """Runs the training."""
    startup.begin()
    from . import flags

    flags.run(study, "Training", __doc__, parallel=False)


if __name__ == "__main__":
    main()
