"""How far does the linear scaling rule hold? Batch sizes with learning rates in proportion.

    python -m trainers.linear_scaling --config=configs/digits.py --workdir=/tmp/scaling

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def study(config, workdir):
    """Runs the study and prints its table.

    Args:
        config: a `ConfigDict` such as `configs/digits.py` gives.
        workdir: folder for everything that the study leaves.
    """
    from keras_svag.study import format_scaling, run_linear_scaling

    verdict = run_linear_scaling(config, workdir, shard=flags.shard())
    flags.print_result(verdict, format_scaling, workdir)


def main():
    """Entry point of the console script."""
    flags.run(study)


if __name__ == "__main__":
    main()
