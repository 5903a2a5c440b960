"""How fast does SVAG(l) tend to its SDE? Weak errors against l on a linear problem and a network.

    python -m trainers.weak_convergence --config=configs/weak_convergence.py --workdir=/tmp/weak

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def study(config, workdir):
    """Runs the study and prints its results.

    Args:
        config: a `ConfigDict` such as `configs/weak_convergence.py` gives.
        workdir: folder for everything that the study leaves.
    """
    from keras_svag.study import format_errors, run_weak_convergence

    verdict = run_weak_convergence(config, workdir, shard=flags.shard())
    flags.print_result(verdict, format_errors, workdir)


def main():
    """Entry point of the console script."""
    flags.run(study, distributed=False)


if __name__ == "__main__":
    main()
