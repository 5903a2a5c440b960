"""How fast does SVAG(l) tend to its SDE? Weak errors against l on a linear problem and a network.

    python -m trainers.weak_convergence --config=configs/weak_convergence.py --workdir=/tmp/weak

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def main():
    """Entry point of the console script."""
    flags.run_study("weak_convergence", distributed=False)


if __name__ == "__main__":
    main()
