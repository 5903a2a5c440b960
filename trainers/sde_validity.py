"""Is SGD well modelled by its SDE? Trains SGD and SVAG at growing amplification and compares.

    python -m trainers.sde_validity --config=configs/digits.py --workdir=/tmp/digits

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

import os
import pathlib

from . import flags


def study(config, workdir):
    """Runs the study and prints its table.

    Args:
        config: a `ConfigDict` such as `configs/digits.py` gives.
        workdir: folder for everything that the study leaves.
    """
    # TensorFlow tells of its CPU features on import; a study has more to say.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from keras_svag.study import format_table, run_sde_validity

    verdict = run_sde_validity(config, workdir)
    print(format_table(verdict))
    print(f"\nReport: {(pathlib.Path(workdir) / 'report.html').resolve()}")


def main():
    """Entry point of the console script."""
    flags.run(study)


if __name__ == "__main__":
    main()
