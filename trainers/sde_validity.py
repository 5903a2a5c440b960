"""Is SGD well modelled by its SDE? Trains SGD and SVAG at growing amplification and compares.

    python -m trainers.sde_validity --config=configs/digits.py --workdir=/tmp/digits

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def main():
    """Entry point of the console script."""
    flags.run_study("sde_validity")


if __name__ == "__main__":
    main()
