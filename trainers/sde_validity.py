"""Is SGD well modelled by its SDE? Trains SGD and SVAG at growing amplification and compares.

    python -m trainers.sde_validity --config=configs/digits.py --workdir=/tmp/digits

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def study(config, workdir):
    """Runs the study and prints its table.

    Args:
        config: a `ConfigDict` such as `configs/digits.py` gives.
        workdir: folder for everything that the study leaves.
    """
    from keras_svag.study import format_table, run_sde_validity

    verdict = run_sde_validity(config, workdir, shard=flags.shard())
    flags.print_result(verdict, format_table, workdir)


def main():
    """Entry point of the console script."""
    flags.run(study)


if __name__ == "__main__":
    main()
